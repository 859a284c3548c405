"""Web users: password hashes, roles, and the key that the web app forwards for each of them.

The users are one document; each user's API key in clear is a secret of its own that only the web
app's identity may read. A reading that fails raises SecretStoreError or MalformedDocumentError,
and the caller keeps what it had. Passwords are kept as bcrypt hashes only.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import bcrypt

from auth.documents import Documents
from auth.errors import AdminRefusedError, MalformedDocumentError
from auth.fields import NAME, Fields
from auth.keyring import KEY_ID
from auth.names import Names
from auth.secrets import Right, SecretNotFoundError, SecretPermissionError, SecretStore

MIN_PASSWORD_CHARS = 10
MAX_PASSWORD_BYTES = 72  # bcrypt reads no further
BCRYPT_COST = 12
GENERATED_CHARS = 20  # 119 bits
WEB_USERS_SECONDS = 60  # how late the web app sees a change of its users ...
WEB_KEY_SECONDS = 300  # ... and of a key that it forwards, unless the API refuses the old one

_HASH = re.compile(r"\$2b\$[0-9]{2}\$[./0-9A-Za-z]{53}")
_FIELDS = (
    *("password_hash", "roles", "tenant", "key_id", "disabled", "must_change_password"),
    *("created_at", "password_changed_at"),
)


class Role(StrEnum):
    """What a person may do in the web app."""

    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class User:
    """A person who may log in; times are Unix seconds."""

    name: str
    password_hash: str = field(repr=False)
    roles: frozenset[Role]
    tenant: str
    created_at: int
    password_changed_at: int
    key_id: str | None = None  # of the key that is forwarded for this user
    disabled: bool = False
    must_change_password: bool = False


Users = Mapping[str, User]


def hash_password(password: str) -> str:
    """Return the bcrypt hash. Raise AdminRefusedError for a password that cannot be one."""
    if len(password) < MIN_PASSWORD_CHARS:
        raise AdminRefusedError(f"a password has at least {MIN_PASSWORD_CHARS} characters")
    if len(password.encode()) > MAX_PASSWORD_BYTES or "\0" in password:
        raise AdminRefusedError(f"a password has at most {MAX_PASSWORD_BYTES} bytes and no NUL")
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(BCRYPT_COST)).decode("ascii")


def is_password(password: str, password_hash: str) -> bool:
    """Say whether the password is the hash's; one that could be none costs as much."""
    usable = len(password.encode()) <= MAX_PASSWORD_BYTES and "\0" not in password
    matches = bcrypt.checkpw((password if usable else "").encode(), password_hash.encode())
    return matches and usable


def generate_password() -> str:
    """Return a random password that can be read aloud and typed."""
    alphabet = string.ascii_letters + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(GENERATED_CHARS))


class UserStore:
    """Reads users and their keys, and keeps the keys; safe to call from many threads."""

    def __init__(self, secrets_: SecretStore, names: Names) -> None:
        self._secrets, self._names = secrets_, names
        self._documents = Documents(secrets_)

    def load(self) -> Users:
        """Return every user by name, as of the store's current version."""
        return from_body(self._documents.read(self._names.users).body)

    def key_of(self, user: str) -> str | None:
        """Return the user's API key in clear, or None if none is kept for them."""
        try:
            return self._secrets.access(self._names.web_key(user), "latest").data.decode("ascii")
        except SecretNotFoundError:
            return None

    def may_keep(self, user: str, *, earlier: bool = False) -> bool:
        """Say whether this identity may change the key that is forwarded for the user.

        With `earlier` to one that was forwarded before, which has to be read for that.
        """
        wanted = {Right.ADD} | ({Right.LIST, Right.ACCESS} if earlier else set())
        return wanted <= self._secrets.rights(self._names.web_key(user))

    def make_room(self, user: str) -> None:
        """See to it that a key can be kept for a new user, before one is issued.

        Raise SecretPermissionError where this identity may not.
        """
        if self.may_keep(user):
            return
        name = self._names.web_key(user)
        self._secrets.ensure_secret(name)
        if not self.may_keep(user):
            raise SecretPermissionError(f"secret {name}: this identity may not add versions")

    def keep_key(self, user: str, key: str) -> None:
        """Make `key` the one that is forwarded for the user; the one before it is kept as well.

        A rotation can be cancelled: then the one before is forwarded again. Adding is all that the
        web app may do: for a new user an operator creates the secret, and what is superseded the
        operator's next change destroys.
        """
        name, data = self._names.web_key(user), key.encode("ascii")
        try:
            self._secrets.add_version(name, data)
        except SecretNotFoundError:
            self._secrets.ensure_secret(name)
            self._secrets.add_version(name, data)
        with suppress(SecretPermissionError):
            for version in self._secrets.list_versions(name)[:-2]:
                self._secrets.destroy_version(name, version.number)

    def kept_keys(self, user: str) -> list[str]:
        """Return the keys that are kept for the user, the newest first."""
        name = self._names.web_key(user)
        try:
            versions = self._secrets.list_versions(name)
        except SecretNotFoundError:
            return []
        found = [self._secrets.access(name, one.number).data for one in reversed(versions)]
        return [data.decode("ascii") for data in found]

    def forget_key(self, user: str) -> None:
        """Delete the user's key from the store."""
        self._secrets.delete_secret(self._names.web_key(user))


def with_user(users: Users, user: User) -> Users:
    """Return users among whom `user` is new or replaces the one of that name."""
    return MappingProxyType({**users, user.name: user})


def with_password(user: User, password_hash: str, now: int, *, must_change: bool) -> User:
    """Return the user with another password."""
    return replace(
        user,
        password_hash=password_hash,
        password_changed_at=now,
        must_change_password=must_change,
    )


def to_body(users: Users) -> dict[str, Any]:
    """Return the users as a document's body."""
    return {
        "users": {
            name: {
                "password_hash": user.password_hash,
                "roles": sorted(user.roles),
                "tenant": user.tenant,
                "key_id": user.key_id,
                "disabled": user.disabled,
                "must_change_password": user.must_change_password,
                "created_at": user.created_at,
                "password_changed_at": user.password_changed_at,
            }
            for name, user in users.items()
        }
    }


def from_body(body: Mapping[str, Any]) -> Users:
    """Return the users that a document's body holds. Raise MalformedDocumentError."""
    try:
        table = Fields("users", body, ("users",)).table("users")
        return MappingProxyType({name: _user(name, value) for name, value in table.items()})
    except ValueError as exc:
        raise MalformedDocumentError(str(exc)) from exc


def _user(name: str, value: object) -> User:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a user")
    fields = Fields(f"user {name}", value, _FIELDS)
    return User(
        name=name,
        password_hash=fields.text("password_hash", _HASH),
        roles=frozenset(Role(one) for one in fields.texts("roles")),
        tenant=fields.text("tenant", NAME),
        created_at=fields.integer("created_at"),
        password_changed_at=fields.integer("password_changed_at"),
        key_id=fields.optional_text("key_id", KEY_ID),
        disabled=fields.flag("disabled"),
        must_change_password=fields.flag("must_change_password"),
    )
