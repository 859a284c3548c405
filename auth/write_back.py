"""What the use of a key changes in its record: its pepper, and the end of a rotation.

Only who holds a secret can digest it anew, so an instance moves it to a new pepper when a key was
proven; and that a rotation's new secret was used is recorded, so that a Redis that was emptied
brings no old secret back. Both are noted here and written a little later, all of a shard's in one
audited change. What is lost (a store that is away, a process that ends) the key's next use brings
again. Nothing waits for this: until then the old pepper counts, and Redis knows the first use.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from auth import keyring as keyrings
from auth.api_key import digest
from auth.audit import Actor
from auth.changes import Changes, Decision, Entry
from auth.errors import AuthError
from auth.keyring import KeyRecord, StoredSecret, shard_of
from auth.names import Names
from auth.secrets import SecretStoreError
from auth.views import audit_view

BATCH_SECONDS = 5.0  # Secret Manager takes two writes a second per secret
RETRY_SECONDS = 60.0  # after a failure
ACTOR = Actor("instance", "")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Move:
    """One secret of a key, as it is kept and as it will be."""

    key_id: str
    old: StoredSecret
    new: StoredSecret

    def applied(self, record: KeyRecord) -> KeyRecord:
        """Return the record as it will be: as it is if it was rotated, revoked or moved since."""
        secrets = tuple(self.new if one == self.old else one for one in record.secrets)
        return replace(record, secrets=secrets)


@dataclass(frozen=True, slots=True)
class FirstUse:
    """The new secret of a rotation was used."""

    key_id: str
    started_at: int
    at: int

    def applied(self, record: KeyRecord) -> KeyRecord:
        """Return the record as it will be: as it is if that rotation is over or this is known."""
        rotation = record.rotation
        if rotation is None or rotation.started_at != self.started_at or rotation.first_used_at:
            return record
        return replace(record, rotation=replace(rotation, first_used_at=self.at))


def after(delay_seconds: float, run: Callable[[], None]) -> None:
    """Run something later, in a thread of its own that does not keep the process alive."""
    timer = threading.Timer(delay_seconds, run)
    timer.daemon = True
    timer.start()


class WriteBack:
    """Collects and writes such changes; safe to call from many threads."""

    def __init__(
        self,
        changes: Changes,
        names: Names,
        *,
        later: Callable[[float, Callable[[], None]], None] = after,
    ) -> None:
        self._changes, self._names, self._later = changes, names, later
        self._lock = threading.Lock()
        # By shard, key id and the old digest or the start of the rotation.
        self._waiting: dict[tuple[int, str, str], Move | FirstUse] = {}
        self._running = False

    def note(
        self,
        key_id: str,
        shards: int,
        old: StoredSecret,
        secret: str,
        *,
        pepper_id: str,
        pepper: bytes,
    ) -> None:
        """Take note of a proven secret that is kept under another pepper than the current one."""
        place = (shard_of(key_id, shards), key_id, old.digest)
        if place in self._waiting:
            return
        new = replace(old, digest=digest(secret, pepper), pepper_id=pepper_id)
        self._wait(place, Move(key_id, old, new))

    def note_first_use(self, key_id: str, shards: int, started_at: int, now: float) -> None:
        """Take note of the use of a rotation's new secret that is not recorded as used."""
        place = (shard_of(key_id, shards), key_id, str(started_at))
        if place not in self._waiting:
            self._wait(place, FirstUse(key_id, started_at, int(now)))

    def _wait(self, place: tuple[int, str, str], change: Move | FirstUse) -> None:
        with self._lock:
            self._waiting.setdefault(place, change)
            if self._running:
                return
            self._running = True
        self._later(BATCH_SECONDS, self.write)

    def write(self) -> None:
        """Write what is waiting; what cannot be written is tried again later."""
        with self._lock:
            taken = dict(self._waiting)
        failed = False
        for shard in sorted({shard for shard, _, _ in taken}):
            places = [place for place in taken if place[0] == shard]
            try:
                self._write_shard(shard, [taken[place] for place in places])
            except (SecretStoreError, AuthError) as exc:
                log.warning("keyring.write_back_failed", shard=shard, error=str(exc))
                failed = True
                continue
            with self._lock:
                for place in places:
                    del self._waiting[place]
        with self._lock:
            self._running = bool(self._waiting)
        if self._running:
            self._later(RETRY_SECONDS if failed else BATCH_SECONDS, self.write)

    def _write_shard(self, shard: int, changes: list[Move | FirstUse]) -> None:
        def decide(body: Mapping[str, Any]) -> Decision:
            ring, moved = keyrings.from_body(body), Counter[str]()
            entries = []
            for change in changes:
                record = ring.get(change.key_id)
                changed = record and change.applied(record)
                if record is None or changed is None or changed == record:
                    continue
                ring = ring.with_record(changed)
                if isinstance(change, Move):
                    moved[change.new.pepper_id] += 1
                else:
                    views = audit_view(record), audit_view(changed)
                    entries.append(Entry("key.first-use", change.key_id, *views, takes_away=True))
            for pepper_id, count in moved.items():
                after_ = {"pepper": pepper_id, "secrets": count}
                entries.append(Entry("pepper.move", self._names.shard(shard), None, after_))
            return keyrings.to_body(ring), entries

        self._changes.apply(self._names.shard(shard), ACTOR, decide)
