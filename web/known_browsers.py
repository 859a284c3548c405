"""A browser in which a person has logged in before is known again, by a signed cookie for months.

It opens nothing: it only gives the attempts on that one name, made in that browser, a counter of
their own, so that strangers cannot use up the attempts of the person at home. Nothing is looked
up, so nothing can fail; another WEB_SESSION_KEY makes every browser an unknown one.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping

from itsdangerous import BadData, URLSafeSerializer

KNOWN_SECONDS = 180 * 86_400


class KnownBrowsers:
    """Issues and reads the cookies, one for each name that logged in."""

    def __init__(self, signing_key: str, *, clock: Callable[[], float] = time.time) -> None:
        self._serializer = URLSafeSerializer(
            signing_key, salt="quillgate-browser", signer_kwargs={"digest_method": hashlib.sha256}
        )
        self._clock = clock

    def token(self, user: str) -> str:
        """Return what makes one more browser of this person known."""
        until = int(self._clock()) + KNOWN_SECONDS
        return self._serializer.dumps({"u": folded(user), "b": secrets.token_hex(8), "e": until})

    def number(self, token: object, user: str) -> str | None:
        """Return which known browser of this person a token is of; None if of none."""
        if not isinstance(token, str) or len(token) > 1024:
            return None
        try:
            claims = self._serializer.loads(token)
            name, number, until = claims["u"], claims["b"], claims["e"]
        except (BadData, KeyError, TypeError):
            return None
        if name != folded(user) or until <= self._clock():
            return None
        return str(number)

    def of_cookies(self, cookies: Mapping[str, str], user: str, *, https: bool) -> str | None:
        """Return which known browser of this person sent these cookies."""
        return self.number(cookies.get(cookie_name(user, https=https)), user)


def cookie_name(user: str, *, https: bool) -> str:
    """Return the name of one person's cookie, which tells nobody who that is."""
    person = hashlib.sha256(folded(user).encode()).hexdigest()[:16]
    return f"{'__Host-' if https else ''}quillgate-known-{person}"


def folded(user: str) -> str:
    """Return the name as attempts on it are counted: case and outer spaces make no other."""
    return user.strip().casefold()
