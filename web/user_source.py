"""The store of users as the web app sees it: it reads accounts, and reads and keeps their keys.

A store in which nobody was ever added is an empty one; whatever else goes wrong is raised.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from auth.names import Names
from auth.secrets import SecretNotFoundError
from auth.stores import open_secrets
from auth.users import User, UserStore
from web.accounts import Account
from web.config import WebSettings

_log = logging.getLogger(__name__)


class StoredUsers:
    """Reads `auth.users`."""

    def __init__(self, store: UserStore) -> None:
        self._store = store
        self._seen = False

    def load(self) -> Mapping[str, Account]:
        """Return all accounts by name."""
        try:
            users = self._store.load()
        except SecretNotFoundError:
            if self._seen:
                raise
            _log.warning(
                "there are no users yet; add one with: "
                "python -m auth users add NAME --tenant TENANT"
            )
            return {}
        self._seen = True
        return {name: _account(user) for name, user in users.items()}

    def key_of(self, username: str) -> str | None:
        """Return the user's API key in clear, None if none is kept."""
        return self._store.key_of(username)

    def keep_key(self, username: str, key: str) -> None:
        """Keep another key for the user: what a rotation gave out."""
        self._store.keep_key(username, key)


def open_users(settings: WebSettings) -> StoredUsers:
    """Return the users of the settings' secret store."""
    return StoredUsers(UserStore(open_secrets(settings.auth), Names(settings.auth.prefix)))


def _account(user: User) -> Account:
    return Account(
        username=user.name,
        password_hash=user.password_hash,
        roles=frozenset(role.value for role in user.roles),
        tenant=user.tenant,
        disabled=user.disabled,
        must_change_password=user.must_change_password,
    )
