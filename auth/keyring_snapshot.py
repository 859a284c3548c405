"""The keyring as one instance holds it, and how it is read from the secret store.

A snapshot is replaced, never changed. A document that is malformed raises and replaces nothing;
a document that cannot be read raises, and what was held is still there.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from auth import directory as directories
from auth import keyring as keyrings
from auth.directory import Directory, check_shards
from auth.documents import Document, Documents
from auth.errors import KeyringUnavailableError, MalformedKeyringError
from auth.keyring import KeyRing
from auth.names import Names
from auth.secrets import SecretNotFoundError, SecretStore

READERS = 16  # documents read at a time

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """A document's value, its version, and when the store last said that it is the current one."""

    value: T
    version: int
    checked_at: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All documents of the keyring by name, with the peppers they need."""

    names: Names
    directory: Held[Directory]
    shards: tuple[Held[KeyRing], ...]
    peppers: Mapping[str, bytes]
    pointer: int = 0  # Redis's, of when the documents were read; 0: unknown

    def documents(self) -> dict[str, Held[Any]]:
        """Return what is held by the name of its document."""
        shards = {self.names.shard(index): one for index, one in enumerate(self.shards)}
        return {self.names.directory: self.directory, **shards}

    def checked(self, name: str, now: float) -> Snapshot:
        """Return the snapshot with one document confirmed as current at `now`."""
        if name == self.names.directory:
            return replace(self, directory=replace(self.directory, checked_at=now))
        return self.with_shard(name, replace(self.shards[_index(name)], checked_at=now))

    def with_shard(self, name: str, shard: Held[KeyRing]) -> Snapshot:
        """Return the snapshot with one shard replaced."""
        index = _index(name)
        return replace(self, shards=(*self.shards[:index], shard, *self.shards[index + 1 :]))


class SnapshotReader:
    """Reads the keyring's documents; raises SecretStoreError and MalformedDocumentError."""

    def __init__(
        self, secrets: SecretStore, names: Names, wanted_shards: int | None = None
    ) -> None:
        self._secrets, self._documents, self._names = secrets, Documents(secrets), names
        self._wanted_shards = wanted_shards

    def read_all(self, known: Mapping[str, int], now: float) -> Snapshot:
        """Return the whole keyring; `known` is what Redis says of the documents' versions."""
        name = self._names.directory
        try:
            document = self._documents.read_at_least(name, known.get(name, 0))
        except SecretNotFoundError as exc:
            raise KeyringUnavailableError(
                f"{exc}: no keyring was set up; `python -m auth tenants add` does it"
            ) from exc
        directory = directories.from_body(document.body)
        check_shards(self._wanted_shards, directory.shards)

        def shard(index: int) -> Held[KeyRing]:
            shard_name = self._names.shard(index)
            found = self._documents.read_at_least(shard_name, known.get(shard_name, 0))
            return _ring(shard_name, found, now)

        with ThreadPoolExecutor(max_workers=READERS) as pool:
            shards = tuple(pool.map(shard, range(directory.shards)))
        held = Held(directory, document.version, now)
        return Snapshot(self._names, held, shards, self._peppers(directory, {}))

    def newer(self, name: str, version: int) -> Document | None:
        """Return the document if the store's current version is newer than the one held."""
        return self._documents.read_newer(name, version)

    def numbered(self, name: str, version: int) -> Document:
        """Return the version that Redis told of or, if that is gone, the current one."""
        try:
            return self._documents.read(name, version)
        except SecretNotFoundError:
            return self._documents.read(name)

    def taken(self, held: Snapshot, name: str, document: Document, now: float) -> Snapshot:
        """Return `held` with a newer version of one of its documents."""
        if name != self._names.directory:
            return held.with_shard(name, _ring(name, document, now))
        directory = directories.from_body(document.body)
        if directory.shards != len(held.shards):
            return self.read_all({name: document.version}, now)
        return replace(
            held,
            directory=Held(directory, document.version, now),
            peppers=self._peppers(directory, held.peppers),
        )

    def _peppers(self, directory: Directory, held: Mapping[str, bytes]) -> Mapping[str, bytes]:
        return {
            one: held.get(one) or self._secrets.access(self._names.pepper(one), 1).data
            for one in directory.pepper_ids
        }


def _ring(name: str, document: Document, now: float) -> Held[KeyRing]:
    try:
        return Held(keyrings.from_body(document.body), document.version, now)
    except MalformedKeyringError as exc:
        raise MalformedKeyringError(f"{name} version {document.version}: {exc}") from exc


def _index(name: str) -> int:
    return int(name.rpartition("-")[2])
