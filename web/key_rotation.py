"""Rotate a key that this web app forwards: the API mints the secret, this app keeps it.

The API's identity may neither read nor write the keys that are forwarded, so the rotation is asked
for here and its answer kept here, before anybody is told. When it cannot be kept, the rotation is
taken back and the old secret goes on serving; an answer that was lost is taken back as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from web.accounts import Accounts
from web.api_client import ApiError
from web.user_api import UserApi


class KeyRotation:
    """Each call raises ApiError, of our own making where the store refused: key_unwritable."""

    def __init__(self, user_api: UserApi, accounts: Accounts) -> None:
        self._user_api, self._accounts = user_api, accounts

    def own(self, username: str) -> str:
        """Give a user's own key a new secret and return the whole key; they notice nothing.

        The old secret is forwarded for some minutes more, so that this can be cancelled.
        """
        return self._rotate(username, "/v1/key", (username,), at_once=False)

    def cancel_own(self, username: str) -> None:
        """Take back a new secret that was never used."""
        forwarded = self._accounts.key_of(username)
        path = "/v1/key/rotation?web_copy=true"
        answer = self._user_api.send(username, "DELETE", path, {})
        for user in _everybody((username,), answer):
            self._accounts.keep_key(user, forwarded)

    def of(self, admin: str, key_id: str, users: Iterable[str]) -> None:
        """Give a key that is forwarded for these users a new secret, as an admin."""
        self._rotate(admin, f"/v1/admin/keys/{key_id}", users, at_once=True)

    def _rotate(self, username: str, path: str, users: Iterable[str], *, at_once: bool) -> str:
        try:
            answer = self._user_api.send(username, "POST", f"{path}/rotate", {"web_copy": True})
        except ApiError as exc:
            if exc.status == 0:
                self._take_back(username, path)
            raise
        key = answer.get("key") if isinstance(answer, dict) else None
        if not isinstance(key, str):
            raise ApiError("bad_answer")
        for kept, user in enumerate(_everybody(users, answer)):
            try:
                self._accounts.keep_key(user, key, at_once=at_once)
            except ApiError:
                if not kept:  # otherwise somebody forwards the new secret already
                    self._take_back(username, path)
                raise
        return key

    def _take_back(self, username: str, path: str) -> None:
        with contextlib.suppress(ApiError):  # the old secret works until its deadline either way
            self._user_api.send(username, "DELETE", f"{path}/rotation?web_copy=true", {})


def _everybody(users: Iterable[str], answer: Any) -> list[str]:
    """Return these users and those whom the API names, each once."""
    named = answer.get("forwarded_for", ()) if isinstance(answer, dict) else ()
    return list(dict.fromkeys([*users, *named]))
