"""Versioned secrets behind one protocol, so that a file and Google Secret Manager are the same.

Every call is bounded in time. A call that fails raises one of the errors below, each a single
line that names the secret and never its payload; nothing is returned half-read.

Consistency, by the weaker of the two stores: a version that `add_version` returned can be read
by its number at once and everywhere; an alias, `latest` and the lists may lag behind, even onto
a version that was destroyed since. Numbers only grow, so whoever reads can tell old from new.

Writing is compare-and-swap: `read_alias`, `add_version`, `move_alias` with the etag that was
read. On `SecretConflictError` destroy the version just added and begin again with `read_alias`.
On any other error of `move_alias` the alias may or may not have moved: destroy nothing. Once the
alias is moved, every live version below its number is superseded or lost its race, and may be
destroyed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

MAX_PAYLOAD_BYTES = 64 * 1024  # Secret Manager's limit for one version

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_RESERVED_ALIASES = frozenset({"latest", "NEW"})


class SecretStoreError(Exception):
    """A secret could not be read or written; `str()` is one line for the log."""


class SecretNotFoundError(SecretStoreError):
    """There is no such secret, version or alias, or the version's payload was destroyed."""


class SecretConflictError(SecretStoreError):
    """Somebody else moved an alias of the secret since the etag was read; nothing was changed."""


class SecretPermissionError(SecretStoreError):
    """This identity may not do that, or has no usable credentials."""


class SecretStoreUnavailableError(SecretStoreError):
    """The store did not answer, or not in a way that can be trusted; a write may have happened."""


class VersionState(StrEnum):
    """The states of a version that still has a payload, and is therefore billed."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class Right(StrEnum):
    """What an identity may do with a secret."""

    ACCESS = "read versions"
    GET = "read aliases"
    LIST = "list versions"
    ADD = "add versions"
    UPDATE = "move aliases"
    DESTROY = "destroy versions"
    DELETE = "delete the secret"

    @property
    def permission(self) -> str:
        """The name of Google's permission."""
        return f"secretmanager.{_PERMISSIONS[self]}"


_PERMISSIONS = {
    Right.ACCESS: "versions.access",
    Right.GET: "secrets.get",
    Right.LIST: "versions.list",
    Right.ADD: "versions.add",
    Right.UPDATE: "secrets.update",
    Right.DESTROY: "versions.destroy",
    Right.DELETE: "secrets.delete",
}


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """A payload and its number; numbers begin at 1 and are never used twice."""

    number: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AliasState:
    """Where an alias points (None: it is not set) and the etag that moving it must present."""

    number: int | None
    etag: str


class VersionInfo(NamedTuple):
    """One live version of a secret."""

    number: int
    state: VersionState


class SecretStore(Protocol):
    """What the rest of Quillgate may ask of a secret store. Safe to call from many threads.

    `name` is the bare id of a secret: letters, digits, `_` and `-`, at most 255 of them; anything
    else is a ValueError. Besides the errors named below, every method may raise
    SecretPermissionError and SecretStoreUnavailableError.
    """

    def ensure_secret(self, name: str) -> None:
        """Create the secret, empty, unless it exists."""

    def access(self, name: str, version: int | str) -> SecretVersion:
        """Return a version by its number, by an alias, or as `latest`.

        Raise SecretNotFoundError where there is none that can be read.
        """

    def read_alias(self, name: str, alias: str) -> AliasState:
        """Return where the alias points. Raise SecretNotFoundError if there is no such secret."""

    def add_version(self, name: str, data: bytes) -> int:
        """Store 1 to `MAX_PAYLOAD_BYTES` bytes (else ValueError) and return the new number.

        No alias moves and no etag changes. Raise SecretNotFoundError if there is no such secret.
        """

    def move_alias(self, name: str, alias: str, number: int, etag: str) -> None:
        """Point the alias at a version that exists, if `etag` is still the secret's.

        Raise SecretConflictError if it is not, SecretNotFoundError if there is no such secret.
        """

    def destroy_version(self, name: str, number: int) -> None:
        """Delete the payload for good; a second time is no error.

        Raise SecretNotFoundError if there never was such a version.
        """

    def list_versions(self, name: str) -> list[VersionInfo]:
        """Return the versions that still have a payload, oldest first.

        Raise SecretNotFoundError if there is no such secret.
        """

    def list_secrets(self, prefix: str) -> list[str]:
        """Return the names that begin with `prefix`, sorted."""

    def delete_secret(self, name: str) -> None:
        """Delete the secret with all its versions; one that is not there is no error."""

    def rights(self, name: str) -> frozenset[Right]:
        """Return what this identity may do with the secret; nothing if there is none.

        Nothing is tried and nothing is changed.
        """

    def close(self) -> None:
        """Let go of connections; the store is not used afterwards."""


def check_name(name: str) -> None:
    """Raise ValueError unless `name` can be the id of a secret in every store."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a secret")


def check_alias(alias: str) -> None:
    """Raise ValueError unless `alias` can be set in every store."""
    if not _ALIAS.fullmatch(alias) or alias in _RESERVED_ALIASES:
        raise ValueError(f"{alias!r} cannot be an alias of a secret's version")


def check_payload(name: str, data: bytes) -> None:
    """Raise ValueError unless `data` fits into one version in every store."""
    if not 1 <= len(data) <= MAX_PAYLOAD_BYTES:
        raise ValueError(f"secret {name}: {len(data)} bytes; 1 to {MAX_PAYLOAD_BYTES} fit")


def check_version(version: int | str) -> None:
    """Raise ValueError unless `version` is a number, `latest` or what can be an alias."""
    if isinstance(version, str) and version != "latest":
        check_alias(version)
