"""Documents in the secret store: read whole, checked strictly, changed by compare-and-swap.

A document is one secret whose alias `current` names the version that counts. A change adds a
version, then moves the alias with the etag it read; whoever loses that race destroys the version
it added and begins again, so nothing is lost between two writers. When the store fails, nothing
is changed, or the error says that it cannot know; a malformed payload is never returned.

Each document carries an outbox: the change and its audit record become visible in the same
compare-and-swap, and the record is then moved into the audit chain (auth/audit.py).
"""

from __future__ import annotations

import hashlib
import json
import random
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from auth.errors import AuthError, DocumentFullError, MalformedDocumentError
from auth.secrets import (
    MAX_PAYLOAD_BYTES,
    AliasState,
    SecretConflictError,
    SecretNotFoundError,
    SecretStore,
    SecretStoreError,
    SecretStoreUnavailableError,
)

FORMAT = 1
ALIAS = "current"
MAX_PLAIN_BYTES = 4 * 1024 * 1024  # what a payload may unpack to
KEPT_BYTES = 12 * 1024  # of a payload, for changes that take access away: those always fit
WRITE_SECONDS = 60.0  # how long a writer tries against others before it gives up
FIRST_PAUSE_SECONDS = 0.02
MAX_PAUSE_SECONDS = 1.0  # Secret Manager takes two writes a second per secret


class BusyError(AuthError):
    """Other writers kept winning, or the current version could not be read; nothing changed."""


@dataclass(frozen=True, slots=True)
class Document:
    """One version of a document.

    `sequence` counts its audited changes; `outbox` holds the records of those that may not be in
    the audit chain yet. `may_fill` is of the change that made it: it may use the room that is kept.
    """

    body: Mapping[str, Any]
    version: int = 0
    sequence: int = 0
    outbox: tuple[Mapping[str, Any], ...] = field(default=())
    may_fill: bool = False


def encode(document: Document) -> bytes:
    """Return the payload: compact JSON, compressed, since a payload is 64 KiB at most."""
    value = {
        "format": FORMAT,
        "sequence": document.sequence,
        "outbox": [dict(record) for record in document.outbox],
        "body": dict(document.body),
    }
    plain = json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return zlib.compress(plain.encode(), level=9)


def body_digest(body: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a body's canonical JSON: what the audit chain says a change left."""
    text = json.dumps(body, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def decode(name: str, data: bytes, version: int) -> Document:
    """Return the document. Raise MalformedDocumentError unless `encode` could have written it."""
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(data, MAX_PLAIN_BYTES)
        if not unpacker.eof or unpacker.unused_data:
            raise ValueError("cut short, or longer than a document may be")
        value = json.loads(plain)
    except (zlib.error, ValueError, RecursionError) as exc:
        raise _damaged(name, version, str(exc)) from exc
    if not isinstance(value, dict) or set(value) != {"format", "sequence", "outbox", "body"}:
        raise _damaged(name, version, "not a document")
    if value["format"] != FORMAT:
        raise MalformedDocumentError(f"{name} version {version}: written by another release")
    sequence, outbox, body = value["sequence"], value["outbox"], value["body"]
    if (
        type(sequence) is not int
        or sequence < 0
        or not isinstance(outbox, list)
        or not all(isinstance(record, dict) for record in outbox)
        or not isinstance(body, dict)
    ):
        raise _damaged(name, version, "not a document")
    return Document(body, version, sequence, tuple(outbox))


def _damaged(name: str, version: int, why: str) -> MalformedDocumentError:
    return MalformedDocumentError(
        f"{name} version {version} is damaged ({why}): point its alias `{ALIAS}` at the newest "
        "version that is whole, see docs/operations.md"
    )


class Documents:
    """Reads and changes documents; safe to call from many threads."""

    def __init__(
        self,
        secrets: SecretStore,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._secrets, self._monotonic, self._sleep = secrets, monotonic, sleep

    def read(self, name: str, version: int | None = None) -> Document:
        """Return a version by its number (strongly consistent), or the one `current` names.

        Raise SecretStoreError or MalformedDocumentError.
        """
        found = self._secrets.access(name, ALIAS if version is None else version)
        return decode(name, found.data, found.number)

    def read_at_least(self, name: str, known: int) -> Document:
        """Return the version that `current` names, or a newer one whose number is known.

        An alias may lag behind, and then even name a version that is destroyed. Raise
        SecretStoreError or MalformedDocumentError.
        """
        try:
            document = self.read(name)
        except SecretNotFoundError:
            if not known:
                raise
            return self.read(name, known)
        if known <= document.version:
            return document
        try:
            return self.read(name, known)
        except SecretNotFoundError:
            return document  # superseded just now

    def read_newer(self, name: str, than: int) -> Document | None:
        """Return the version that `current` names if it is newer; an alias may lag behind."""
        found = self._secrets.access(name, ALIAS)
        return decode(name, found.data, found.number) if found.number > than else None

    def exists(self, name: str) -> bool:
        """Say whether the document was ever written."""
        try:
            return self._secrets.read_alias(name, ALIAS).number is not None
        except SecretNotFoundError:
            return False

    def create(self, name: str, body: Mapping[str, Any]) -> int | None:
        """Write the first version, and return its number, unless there is one already."""
        self._secrets.ensure_secret(name)
        state = self._secrets.read_alias(name, ALIAS)
        if state.number is not None:
            return None
        return self._swap(name, Document(body), state)

    def update(
        self,
        name: str,
        change: Callable[[Document], Document],
        published: Callable[[Document], None] = lambda _: None,
    ) -> Document:
        """Replace the current version by `change` of it, and return the new one.

        `change` may be called several times and must be pure; what it raises ends the update
        with nothing changed, and if it returns what it was given nothing is written. `published`
        runs once the new version counts, before the versions
        below it are destroyed: whoever still reads one of them can learn of the new one.
        """
        deadline = self._monotonic() + WRITE_SECONDS
        pause = FIRST_PAUSE_SECONDS
        while True:
            state = self._secrets.read_alias(name, ALIAS)
            if state.number is None:
                raise SecretNotFoundError(f"secret {name} has no current version")
            written = self._try_update(name, change, state, published)
            if written is not None:
                return written
            if self._monotonic() > deadline:
                raise BusyError(f"{name}: other writers came first for {WRITE_SECONDS:.0f} s")
            self._sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, MAX_PAUSE_SECONDS)

    def _try_update(
        self,
        name: str,
        change: Callable[[Document], Document],
        state: AliasState,
        published: Callable[[Document], None],
    ) -> Document | None:
        try:
            current = self.read(name, state.number)
        except SecretNotFoundError:
            return None  # the alias we saw is behind: somebody has moved it on
        new = change(current)
        if new is current:
            return current
        number = self._swap(name, new, state)
        if number is None:
            return None
        written = replace(new, version=number)
        published(written)
        self._destroy_below(name, number)
        return written

    def _swap(self, name: str, document: Document, state: AliasState) -> int | None:
        """Make `document` current if the alias is still `state`; None if somebody was faster."""
        data = encode(document)
        if len(data) > MAX_PAYLOAD_BYTES - (0 if document.may_fill else KEPT_BYTES):
            raise DocumentFullError(
                f"{name} is full: a secret holds {MAX_PAYLOAD_BYTES} bytes, "
                f"{KEPT_BYTES} of them for revocations alone"
            )
        number = self._secrets.add_version(name, data)
        try:
            self._secrets.move_alias(name, ALIAS, number, state.etag)
        except SecretConflictError:
            self._destroy(name, number)
            return None
        except SecretStoreUnavailableError:
            # The answer was lost, perhaps not the request.
            if self._secrets.read_alias(name, ALIAS).number != number:
                raise
        return number

    def _destroy_below(self, name: str, number: int) -> None:
        """Destroy what is superseded (it would be billed); what is left, the next change takes."""
        try:
            superseded = [one.number for one in self._secrets.list_versions(name)]
        except SecretStoreError:
            return
        for one in superseded:
            if one < number:
                self._destroy(name, one)

    def _destroy(self, name: str, number: int) -> None:
        try:
            self._secrets.destroy_version(name, number)
        except SecretStoreError:
            return  # harmless: nothing reads it, and the next change tries again
