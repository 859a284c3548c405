"""Logging in: one message and one cost for every failure, and few guesses for everybody.

If the store of users is away, the last copy decides (see `accounts`).
"""

from __future__ import annotations

from dataclasses import dataclass

from web.accounts import Account, Accounts
from web.passwords import password_matches
from web.sessions import Session, Sessions, password_version
from web.throttle import LoginThrottle, whole_seconds

WRONG = "Username or password is not right."


@dataclass(frozen=True, slots=True)
class LoginRefusedError(Exception):
    """Why a login failed, as the person is told it."""

    message: str
    wait_seconds: float = 0.0  # until an attempt is looked at again


def too_many(seconds: float) -> str:
    """Return how long somebody waits after too many attempts."""
    return f"Too many attempts. Try again in {whole_seconds(seconds)} s."


class LoginDesk:
    """Checks passwords, and whether a session still holds."""

    def __init__(self, accounts: Accounts, sessions: Sessions, throttle: LoginThrottle) -> None:
        self._accounts, self._sessions, self._throttle = accounts, sessions, throttle

    def log_in(self, username: str, password: str, address: str, browser: str | None = None) -> str:
        """Return the token of a new session, or raise LoginRefusedError.

        `browser` is a known one's number, if this person has logged in there before.
        """
        username = username.strip()
        wait = self._throttle.admit(username, address, browser)
        if wait > 0:
            raise LoginRefusedError(too_many(wait), wait)
        account = self._accounts.find(username)
        known_hash = None if account is None else account.password_hash
        if not password_matches(password, known_hash, self._accounts.password_hashes()):
            raise LoginRefusedError(WRONG)
        self._throttle.succeeded(username, address, browser)
        return self._sessions.start(username, password_version(known_hash or ""))

    def start(self, account: Account) -> str:
        """Return the token of a new session of somebody who has just proved who they are."""
        return self._sessions.start(account.username, password_version(account.password_hash))

    def recognise(self, token: object) -> tuple[Session, Account] | None:
        """Return whose valid session this is, as the users' store has them now; else None."""
        session = self._sessions.read(token)
        if session is None:
            return None
        account = self._accounts.find(session.user)
        if account is None:
            return None
        if password_version(account.password_hash) != session.password_version:
            return None
        return session, account
