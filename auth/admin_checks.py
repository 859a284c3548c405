"""What an admin may set on a key: a check returns the value or says what would be right. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from auth.api_key import KEY_SHAPE
from auth.errors import AdminRefusedError
from auth.keyring import KEY_NAME, canonical_cidr
from auth.principal import Scope

MAX_CIDRS = 50
MAX_NOTE_CHARS = 500
MAX_EXPIRY_SECONDS = 100 * 365 * 86_400  # past it a typing error, and dates end


def checked_note(note: str | None) -> str | None:
    """Return a reason for the audit chain, which never holds a key."""
    if note is not None and len(note) > MAX_NOTE_CHARS:
        raise AdminRefusedError(f"a reason has at most {MAX_NOTE_CHARS} characters")
    if note is not None and KEY_SHAPE.search(note):
        raise AdminRefusedError("a reason must not hold an API key: name it by its id")
    return note


def checked_name(name: str) -> str:
    """Return a key's name: 1 to 64 printable characters, and no key."""
    if KEY_SHAPE.search(name):
        raise AdminRefusedError("a key's name must not hold an API key: names are shown and logged")
    if not KEY_NAME.fullmatch(name) or not name.strip():
        raise AdminRefusedError("a key's name has 1 to 64 characters and no control characters")
    return name


def checked_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes of these names."""
    try:
        scopes = frozenset(Scope(name) for name in names)
    except ValueError as exc:
        known = ", ".join(scope.value for scope in Scope)
        raise AdminRefusedError(f"{exc}: choose from {known}") from exc
    if not scopes:
        raise AdminRefusedError("a key needs at least one scope")
    return scopes


def checked_expiry(expires_at: int | None, now: int) -> int | None:
    """Return when a key expires: in the future, and within a hundred years."""
    if expires_at is not None and expires_at <= now:
        raise AdminRefusedError("a key must expire in the future")
    if expires_at is not None and expires_at > now + MAX_EXPIRY_SECONDS:
        raise AdminRefusedError("a key expires within a hundred years, or never")
    return expires_at


def checked_cidrs(cidrs: Iterable[str]) -> tuple[str, ...]:
    """Return networks in their one spelling; a single address is a network of one."""
    try:
        networks = tuple(dict.fromkeys(canonical_cidr(one.strip()) for one in cidrs))
    except ValueError as exc:
        raise AdminRefusedError(f"not a network: {exc}") from exc
    if len(networks) > MAX_CIDRS:
        raise AdminRefusedError(f"a key has at most {MAX_CIDRS} networks")
    return networks
