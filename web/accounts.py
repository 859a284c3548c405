"""Who may log in and which key each of them forwards, read again every minute.

When the store of users cannot be read, the last good copy goes on serving and the next reading is
tried a minute later; only the very first reading must succeed. A key is read when it is first
needed, kept in this process for five minutes at most, and dropped when the API refuses it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from auth.users import WEB_KEY_SECONDS, WEB_USERS_SECONDS
from web.api_client import ApiError

REFRESH_SECONDS = float(WEB_USERS_SECONDS)
KEY_SECONDS = float(WEB_KEY_SECONDS)
REFUSED_KEY_SECONDS = 30.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """One person who may log in."""

    username: str
    password_hash: str = field(repr=False)
    roles: frozenset[str] = frozenset()
    tenant: str = ""
    disabled: bool = False
    must_change_password: bool = False


class UserSource(Protocol):
    """Where accounts and keys are kept; `web.user_source` is the real one."""

    def load(self) -> Mapping[str, Account]:
        """Return all accounts by name, or raise."""

    def key_of(self, username: str) -> str | None:
        """Return the user's API key in clear, None if none is assigned, or raise."""

    def keep_key(self, username: str, key: str) -> None:
        """Keep another key for the user, or raise."""


@dataclass(slots=True)
class _HeldKey:
    key: str = field(repr=False)
    read_at: float
    refused_until: float = 0.0


class Accounts:
    """The users as of at most a minute ago, and their keys."""

    def __init__(self, source: UserSource, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, _HeldKey] = {}
        self._accounts: Mapping[str, Account] = MappingProxyType(dict(source.load()))

    def find(self, username: str) -> Account | None:
        """Return who may log in by this name; None also if disabled."""
        account = self._accounts.get(username)
        return None if account is None or account.disabled else account

    def password_hashes(self) -> list[str]:
        """Return all hashes: what an unknown user's password is compared with must cost as much."""
        return [account.password_hash for account in self._accounts.values()]

    def refresh(self) -> bool:
        """Read the users again; on failure keep the copy, log, and return False."""
        try:
            accounts = dict(self._source.load())
        except Exception as exc:  # noqa: BLE001  # whatever the store's failure, people stay served
            _log.warning("users cannot be read (%s); the last copy serves", type(exc).__name__)
            return False
        self._accounts = MappingProxyType(accounts)
        return True

    def keep_fresh(self, stop: threading.Event) -> None:
        """Refresh every minute until `stop` is set; meant for a thread of its own."""
        while not stop.wait(REFRESH_SECONDS):
            self.refresh()

    def key_of(self, username: str) -> str:
        """Return the user's key. Raise ApiError no_key, key_unreadable or invalid_key.

        A key that was just refused is not sent again for half a minute: refusals count against
        this machine's address, which all users share.
        """
        now = self._clock()
        with self._lock:
            held = self._keys.get(username)
        if held is not None and held.refused_until > now:
            raise ApiError("invalid_key", 401)
        if held is not None and not held.refused_until and now - held.read_at < KEY_SECONDS:
            return held.key
        return self._read_key(username, now)

    def key_was_refused(self, username: str, refused: str) -> str:
        """Read the user's key again and return it if it is another one, else raise invalid_key."""
        now = self._clock()
        key = self._read_key(username, now)
        if key == refused:
            with self._lock:
                self._keys[username] = _HeldKey(key, now, now + REFUSED_KEY_SECONDS)
            raise ApiError("invalid_key", 401)
        return key

    def keep_key(self, username: str, key: str, *, at_once: bool = True) -> None:
        """Forward another key for the user. Raise ApiError key_unwritable.

        Not at once: what is forwarded now goes on being forwarded for as long as a key is held
        here, so that its holder can still take a new secret back that nobody has used.
        """
        try:
            self._source.keep_key(username, key)
        except Exception as exc:  # noqa: BLE001  # whatever it is, the rotation is taken back
            _log.warning("the key of a user cannot be kept (%s)", type(exc).__name__)
            raise ApiError("key_unwritable") from None
        with self._lock:
            held = self._keys.get(username)
            forwarded = key if at_once or held is None else held.key
            self._keys[username] = _HeldKey(forwarded, self._clock())

    def _read_key(self, username: str, now: float) -> str:
        try:
            key = self._source.key_of(username)
        except Exception as exc:  # noqa: BLE001  # whatever it is, the person is told
            _log.warning("the key of a user cannot be read (%s)", type(exc).__name__)
            raise ApiError("key_unreadable") from None
        if not key:
            raise ApiError("no_key")
        with self._lock:
            self._keys[username] = _HeldKey(key, now)
        return key
