"""Who is logged in: signed tokens that end by time, by logout, and with the password they began.

A token says who, which login, until when, and which password; it holds no key and nothing to look
up. Logouts are remembered in a file under the home, so that a copied cookie stays dead after a
restart; where that file cannot be written they are remembered until the process ends.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from itsdangerous import BadData, URLSafeSerializer

from web.private_file import write_private

LIFETIME_SECONDS = 8 * 3600
TICKET_SECONDS = 30
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """One login of one person; times are Unix seconds."""

    user: str
    login_id: str
    expires_at: int
    password_version: str

    @property
    def tag(self) -> str:
        """Return what tells this login from others, in pages too: nothing can be done with it."""
        return hashlib.sha256(f"quillgate tag {self.login_id}".encode()).hexdigest()[:12]


def password_version(password_hash: str) -> str:
    """Return what binds a session to a password without telling anything of its hash."""
    return hashlib.sha256(password_hash.encode()).hexdigest()[:16]


def cookie_name(*, https: bool) -> str:
    """Return the cookie's name: behind https one that no other host or path can set."""
    return "__Host-quillgate" if https else "quillgate"


def is_https(headers: Mapping[str, str], scheme: str = "") -> bool:
    """Tell whether the browser spoke TLS, to us or to the proxy before us.

    A client that forges the header only harms its own cookie.
    """
    forwarded = headers.get("x-forwarded-proto") or headers.get("X-Forwarded-Proto") or ""
    return (forwarded.split(",")[0].strip().lower() or scheme) in ("https", "wss")


class Sessions:
    """Issues, reads and ends sessions, and hands tokens to the browser by one-time tickets."""

    def __init__(
        self,
        signing_key: str,
        *,
        ended_file: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.when_ended: list[Callable[[str], None]] = []  # told the id of a login that ended
        self._serializer = URLSafeSerializer(
            signing_key, salt="quillgate-session", signer_kwargs={"digest_method": hashlib.sha256}
        )
        self._clock = clock
        self._lock = threading.Lock()
        self._tickets: dict[str, tuple[str, float]] = {}
        self._ended_file = ended_file
        self._ended: dict[str, int] = self._read_ended()

    def start(self, user: str, version: str) -> str:
        """Return the token of a new login."""
        expires_at = int(self._clock()) + LIFETIME_SECONDS
        login_id = secrets.token_urlsafe(12)
        return self._serializer.dumps({"u": user, "i": login_id, "e": expires_at, "v": version})

    def read(self, token: object) -> Session | None:
        """Return the session of a token that is genuine, in time and not ended; else None.

        The caller still compares `password_version` with the user's present one.
        """
        if not isinstance(token, str) or len(token) > 1024:
            return None
        try:
            claims = self._serializer.loads(token)
            session = Session(claims["u"], claims["i"], claims["e"], claims["v"])
        except (BadData, KeyError, TypeError):
            return None
        if session.expires_at <= self._clock() or session.login_id in self._ended:
            return None
        return session

    def end(self, session: Session) -> None:
        """End this login in every tab and for every copy of its cookie."""
        with self._lock:
            now = self._clock()
            self._ended = {k: until for k, until in self._ended.items() if until > now}
            self._ended[session.login_id] = session.expires_at
            self._write_ended()
        for tell in self.when_ended:
            tell(session.login_id)

    def has_ended(self, login_id: str) -> bool:
        """Tell whether a login was ended before its time."""
        return login_id in self._ended

    def ticket(self, token: str) -> str:
        """Return a ticket that fetches `token` once, soon, over HTTP: scripts set no cookies."""
        now = self._clock()
        ticket = secrets.token_urlsafe(24)
        with self._lock:
            forgotten = now - LIFETIME_SECONDS  # until then a lapsed one is known as such
            self._tickets = {k: held for k, held in self._tickets.items() if held[1] > forgotten}
            self._tickets[ticket] = (token, now + TICKET_SECONDS)
        return ticket

    def redeem(self, ticket: str) -> tuple[str, Session] | None:
        """Return the token and its session, in time and the first time; else None."""
        with self._lock:
            token, until = self._tickets.get(ticket, ("", 0.0))
            if until <= self._clock():
                return None
            del self._tickets[ticket]
        session = self.read(token)
        return None if session is None else (token, session)

    def lapsed(self, ticket: str) -> bool:
        """Tell whether a ticket came to nothing: nobody redeemed it while it could be."""
        with self._lock:
            held = self._tickets.get(ticket)
        return held is not None and held[1] <= self._clock()

    def seconds_left(self, session: Session) -> int:
        """Return how long a session may still last."""
        return session.expires_at - int(self._clock())

    def _read_ended(self) -> dict[str, int]:
        if self._ended_file is None:
            return {}
        try:
            ended = json.loads(self._ended_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            _log.warning("the list of ended sessions is unreadable; starting an empty one")
            return {}
        return {str(k): int(until) for k, until in ended.items() if until > self._clock()}

    def _write_ended(self) -> None:
        if self._ended_file is None:
            return
        try:
            write_private(self._ended_file, json.dumps(self._ended))
        except OSError:
            _log.warning("a logout could not be written down; it holds until this process ends")
