"""The keyring in memory, kept current without any thread in the background.

An instance learns of a change in three ways: the limiter's Redis call returns the keyring's
pointer with every request (`observe`); a refusal asks Redis once before it is final, so that a
key just issued works at once (`ask_redis`); and when Redis has not confirmed the keyring lately,
the next request compares the documents that it needs with the secret store (`keep_current`).

When Redis is away, each document in use is compared every 30 s. When the store is away too, or
holds something malformed, the last good keyring serves on, for at most a day since it was last
known to be current; then nobody is let in. Without ever having had a keyring an instance is never
ready, and `why_not_ready` says why.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from auth.documents import Document
from auth.errors import AuthError, KeyringUnavailableError
from auth.keyring_snapshot import READERS, Snapshot, SnapshotReader
from auth.names import Names
from auth.propagation import Propagation, PropagationUnavailableError
from auth.secrets import SecretStoreError

CONFIRM_SECONDS = 2.0  # after a word from Redis the next request asks it again
GAP_SECONDS = 5.0  # without a word from Redis: a writer may have tried in vain to tell it
RECHECK_SECONDS = 30.0  # between two looks at a document's alias while Redis vouches for nothing
TRUSTED_RECHECK_SECONDS = 3600.0  # ... and while it does: a writer may have failed to tell Redis
RETRY_SECONDS = 1.0  # after a newer version could not be read
MAX_AGE_SECONDS = 86_400.0

_EVERYTHING = "*"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Told:
    """What Redis says of the keyring: the pointer (0: it has none) and documents' versions."""

    answered: bool
    pointer: int = 0
    known: Mapping[str, int] = field(default_factory=dict)


class CurrentKeyring:
    """Holds a snapshot and replaces it by newer ones; safe to call from many threads."""

    def __init__(
        self,
        reader: SnapshotReader,
        propagation: Propagation | None,
        *,
        names: Names,
        clock: Callable[[], float] = time.time,
        max_age_seconds: float = MAX_AGE_SECONDS,
    ) -> None:
        self._reader, self._propagation = reader, propagation
        self._names, self._clock, self.max_age_seconds = names, clock, max_age_seconds
        self._lock = threading.RLock()  # one refresh at a time
        self._held: Snapshot | None = None
        self._problem: str | None = "the keyring has not been loaded yet"
        self._checked_at = 0.0  # when the store last confirmed any document
        self._confirmed_at = 0.0  # when Redis last vouched for the snapshot ...
        self._trusted_since = 0.0  # ... which it has done without a gap since then
        self._next_look: dict[str, float] = {}  # per document: not before then
        self._retry_at = 0.0
        self._told: Mapping[str, int] = {}  # the versions that Redis last knew of

    @property
    def snapshot(self) -> Snapshot:
        """The keyring as held. Raise KeyringUnavailableError if there is none."""
        if self._held is None:
            raise KeyringUnavailableError(self._problem)
        return self._held

    @property
    def problem(self) -> str | None:
        """What went wrong at the last refresh, also while the older keyring serves."""
        return self._problem

    @property
    def age_seconds(self) -> float:
        """How long ago the keyring was last known to be current."""
        if self._held is None:
            return float("inf")
        return self._clock() - max(self._confirmed_at, self._checked_at)

    @property
    def too_old(self) -> bool:
        return self.age_seconds > self.max_age_seconds

    def why_not_ready(self) -> str | None:
        """Say in one line why nobody can be let in; None if somebody can."""
        if self._held is None:
            return self._problem
        if self.too_old:
            self._look_after_idling()
        if self.too_old:
            age = f"the keyring was last known to be current {self.age_seconds:.0f} s ago"
            return f"{age}: {self._problem or 'nothing confirms it'}"
        return None

    def load(self) -> None:
        """Read every document. Raise KeyringUnavailableError; an earlier keyring is kept."""
        with self._lock:
            told = self._pointers()
            now = self._clock()
            try:
                self._held = self._reader.read_all(told.known, now)
            except (SecretStoreError, AuthError) as exc:
                self._problem = str(exc)
                raise KeyringUnavailableError(self._problem) from exc
            self._problem, self._checked_at = None, now
            if told.answered:
                self._agree(told)

    def observe(self, pointer: int) -> bool:
        """Take note of the pointer that a request's call to Redis returned.

        Return whether a newer keyring was read, so that the request must be checked again.
        """
        held = self._held
        if held is None:
            return False
        if pointer == held.pointer:
            self._confirm()
            return False
        with self._lock:
            if self.snapshot.pointer < pointer:
                self._catch_up()
            return self.snapshot is not held

    def ask_redis(self) -> bool:
        """Read the pointer once; return whether a newer keyring was read because of it."""
        if self._propagation is None:
            return False
        held = self.snapshot
        try:
            pointer = self._propagation.current_version(self._names.keyring)
        except PropagationUnavailableError:
            return False
        if pointer is not None and pointer == held.pointer:
            self._confirm()
            return False
        with self._lock:
            if pointer is None:
                self._restore_pointer()
            elif pointer != self.snapshot.pointer:
                self._catch_up()
            return self.snapshot is not held

    def behind(self, shard: int) -> bool:
        """Say whether Redis told of a newer version of a shard that could not be read yet."""
        held = self.snapshot.shards[shard]
        return self._told.get(self._names.shard(shard), 0) > held.version

    def keep_current(self, shard: int) -> None:
        """Before a key of `shard` is checked: see to it that what is held is not too old."""
        now = self._clock()
        vouched = now - self._confirmed_at <= CONFIRM_SECONDS
        if vouched and self._fresh(shard, now):
            return
        if not self._lock.acquire(blocking=False):
            return  # another request is at it; what is held serves meanwhile
        try:
            if not vouched:
                self.ask_redis()
            if not self._fresh(shard, now):
                self._look([self._names.directory, self._names.shard(shard)])
        finally:
            self._lock.release()

    def _fresh(self, shard: int, now: float) -> bool:
        held = self.snapshot
        checked_at = min(held.directory.checked_at, held.shards[shard].checked_at)
        vouched = now - self._confirmed_at <= GAP_SECONDS and checked_at >= self._trusted_since
        return now - checked_at <= (TRUSTED_RECHECK_SECONDS if vouched else RECHECK_SECONDS)

    def _confirm(self) -> None:
        now = self._clock()
        if now - self._confirmed_at > GAP_SECONDS:
            self._trusted_since = now - GAP_SECONDS
        self._confirmed_at = now

    def _pointers(self) -> Told:
        if self._propagation is None:
            return Told(answered=False)
        try:
            pointer, known = self._propagation.versions(self._names.keyring)
        except PropagationUnavailableError:
            return Told(answered=False)
        return Told(answered=True, pointer=pointer or 0, known=known)

    def _catch_up(self) -> None:
        """Read the documents that Redis knows a newer version of; the caller holds the lock."""
        if self._clock() < self._retry_at:
            return
        told = self._pointers()
        if not told.answered:
            return
        self._told = told.known
        newer = {
            name: partial(self._reader.numbered, name, told.known[name])
            for name, held in self.snapshot.documents().items()
            if told.known.get(name, 0) > held.version
        }
        if self._take_all(newer):
            self._agree(told)
        else:
            self._retry_at = self._clock() + RETRY_SECONDS

    def _restore_pointer(self) -> None:
        """Redis was emptied: compare every document with the store, then tell Redis."""
        names = list(self.snapshot.documents())
        if self._may_look(_EVERYTHING) and self._look(names, forced=True):
            self._agree(Told(answered=True))

    def _agree(self, told: Told) -> None:
        """Tell Redis what it does not know, and hold the pointer that it then has."""
        held, pointer = self.snapshot, told.pointer
        unknown = {
            name: one.version
            for name, one in held.documents().items()
            if one.version > told.known.get(name, 0)
        }
        if unknown and self._propagation is not None:
            try:
                pointer = self._propagation.publish(self._names.keyring, unknown)
            except PropagationUnavailableError:
                return
        self._held = replace(held, pointer=pointer)
        self._confirm()

    def _look_after_idling(self) -> None:
        if not self._lock.acquire(blocking=False):
            return
        try:
            self.ask_redis()
            self._look([self._names.directory])
        finally:
            self._lock.release()

    def _may_look(self, name: str) -> bool:
        now = self._clock()
        if now < self._next_look.get(name, 0.0):
            return False
        self._next_look[name] = now + RECHECK_SECONDS
        return True

    def _look(self, names: Collection[str], *, forced: bool = False) -> bool:
        """Compare documents with their aliases, take newer ones; say whether all were read."""
        held = self.snapshot.documents()
        return self._take_all(
            {
                name: partial(self._reader.newer, name, held[name].version)
                for name in names
                if forced or self._may_look(name)
            }
        )

    def _take_all(self, reads: Mapping[str, Callable[[], Document | None]]) -> bool:
        """Hold what can be read; one that cannot be does not keep the others back."""
        if not reads:
            return True
        with ThreadPoolExecutor(max_workers=min(READERS, len(reads))) as pool:
            found = {name: pool.submit(read) for name, read in reads.items()}
        taken = [self._take(name, one.result) for name, one in found.items()]
        if all(taken):
            self._problem = None
        return all(taken)

    def _take(self, name: str, read: Callable[[], Document | None]) -> bool:
        """Hold the newer document that was read, or know that what is held is the newest."""
        held, now = self.snapshot, self._clock()
        try:
            newer = read()
            self._held = (
                held.checked(name, now)
                if newer is None
                else self._reader.taken(held, name, newer, now)
            )
        except (SecretStoreError, AuthError) as exc:
            if str(exc) != self._problem:
                log.warning("keyring.refresh_failed", document=name, error=str(exc))
            self._problem = str(exc)
            return False
        self._checked_at = now
        return True
