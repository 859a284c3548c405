"""Moves secrets to a new pepper as they are used, so that no key is issued again for it.

Only who holds a secret can digest it anew, so an instance does it when a key was proven: the new
digest is noted here and written a little later, all of a shard's in one audited change. What is
lost (a store that is away, a process that ends) the key's next use brings again. Nothing waits for
this, and nothing depends on when it runs: until then the old pepper still counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from auth import keyring as keyrings
from auth.api_key import digest
from auth.audit import Actor
from auth.changes import Changes, Decision, Entry
from auth.errors import AuthError
from auth.keyring import StoredSecret, shard_of
from auth.names import Names
from auth.secrets import SecretStoreError

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


def after(delay_seconds: float, run: Callable[[], None]) -> None:
    """Run something later, in a thread of its own that does not keep the process alive."""
    timer = threading.Timer(delay_seconds, run)
    timer.daemon = True
    timer.start()


class PepperMoves:
    """Collects and writes moves; safe to call from many threads."""

    def __init__(
        self,
        changes: Changes,
        names: Names,
        *,
        later: Callable[[float, Callable[[], None]], None] = after,
    ) -> None:
        self._changes, self._names, self._later = changes, names, later
        self._lock = threading.Lock()
        self._waiting: dict[tuple[int, str, str], Move] = {}  # by shard, key id and old digest
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
        with self._lock:
            self._waiting[place] = Move(key_id, old, new)
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
                log.warning("pepper.move_failed", shard=shard, error=str(exc))
                failed = True
                continue
            with self._lock:
                for place in places:
                    del self._waiting[place]
        with self._lock:
            self._running = bool(self._waiting)
        if self._running:
            self._later(RETRY_SECONDS if failed else BATCH_SECONDS, self.write)

    def _write_shard(self, shard: int, moves: list[Move]) -> None:
        def decide(body: Mapping[str, Any]) -> Decision:
            ring, moved = keyrings.from_body(body), 0
            for move in moves:
                record = ring.get(move.key_id)
                if record is None or move.old not in record.secrets:
                    continue  # rotated out, revoked, or moved by another instance
                secrets = tuple(move.new if one == move.old else one for one in record.secrets)
                ring, moved = ring.with_record(replace(record, secrets=secrets)), moved + 1
            pepper_id = moves[-1].new.pepper_id
            after_ = {"pepper": pepper_id, "secrets": moved}
            entry = Entry("pepper.move", self._names.shard(shard), None, after_)
            return keyrings.to_body(ring), [entry] if moved else []

        self._changes.apply(self._names.shard(shard), ACTOR, decide)
