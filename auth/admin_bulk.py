"""Many keys at once: issued or revoked by a list, in few writes (a secret takes two a second).

Every row is checked before anything is written, and a bad one refuses them all, by its number.
When the store fails on the way, the answer says for each row what became of it: a key that was
issued is never lost from sight, and one to be revoked is refused whatever the store does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from auth.admin_checks import checked_note
from auth.admin_context import AdminContext, answered, check_key_id
from auth.admin_keys import KeyAdmin, KeyOrder, revoked, unwritten
from auth.changes import Entry
from auth.errors import AdminRefusedError, AuthError, DocumentFullError
from auth.keyring import KeyRing, shard_of
from auth.secrets import SecretStoreError
from auth.views import audit_view, key_view

MAX_ROWS = 10_000
ROWS_AT_ONCE = 100  # their audit records wait in the document, which holds 64 KiB


@dataclass(frozen=True, slots=True)
class Revocation:
    """A key to be revoked."""

    key_id: str
    reason: str | None = None


Row = dict[str, Any]
Edit = Callable[[KeyRing], tuple[KeyRing, list[Entry]]]


class KeyBulk:
    """Answers one row for each that was asked for, in that order; `error` says what failed."""

    def __init__(self, context: AdminContext, keys: KeyAdmin) -> None:
        self._context, self._keys = context, keys

    def issue(self, orders: Sequence[KeyOrder]) -> list[Row]:
        """Issue keys; each row holds its whole key, for the only time."""
        _check_length(orders)
        context, now = self._context, self._context.now()
        directory = context.directory()
        pepper = context.pepper(directory.pepper_id)
        made = _each_row(orders, lambda order: self._keys.made(order, directory, pepper, now))
        rows = [
            {"key": key.reveal(), **key_view(record, directory.tenants[record.tenant], now)}
            for key, record in made
        ]
        shards = [shard_of(key.key_id, directory.shards) for key, _ in made]

        def edit_for(places: Sequence[int]) -> Edit:
            def edit(ring: KeyRing) -> tuple[KeyRing, list[Entry]]:
                entries = []
                for place in places:
                    _, record = made[place]
                    ring = ring.with_record(record)
                    entries.append(Entry("key.issue", record.key_id, None, audit_view(record)))
                return ring, entries

            return edit

        for row in self._change(rows, shards, edit_for):
            row.pop("key")  # it was not stored: nothing could be done with it
        return rows

    def revoke(self, revocations: Sequence[Revocation]) -> list[Row]:
        """Revoke keys: all are refused from the next request on while their shards are written."""
        _check_length(revocations)
        _each_row(revocations, _check_revocation)
        context, now = self._context, self._context.now()
        try:
            directory = context.directory()
            known = {record.key_id: record for record in context.records(directory)}
        except AdminRefusedError:
            raise
        except (SecretStoreError, AuthError) as exc:
            return self._marked_alone(revocations, exc)

        def found(one: Revocation) -> Row:
            if one.key_id not in known:
                raise AdminRefusedError(f"there is no key {one.key_id}")
            record = revoked(known[one.key_id], now)
            return key_view(record, directory.tenants[record.tenant], now)

        rows = _each_row(revocations, found)
        told = self._keys.mark_records_revoked([known[one.key_id] for one in revocations])
        shards = [shard_of(one.key_id, directory.shards) for one in revocations]

        def edit_for(places: Sequence[int]) -> Edit:
            def edit(ring: KeyRing) -> tuple[KeyRing, list[Entry]]:
                entries = []
                for place in places:
                    one = revocations[place]
                    before = ring[one.key_id]
                    after = revoked(before, now)
                    ring = ring.with_record(after)
                    views = audit_view(before), audit_view(after)
                    entries.append(
                        Entry("key.revoke", one.key_id, *views, one.reason, takes_away=True)
                    )
                return ring, entries

            return edit

        failed = self._change(rows, shards, edit_for, told=told)
        for row in failed if told else ():
            row["error"] = unwritten(row["key_id"], row["error"])
        return rows

    def _marked_alone(self, revocations: Sequence[Revocation], error: Exception) -> list[Row]:
        """Refuse keys without knowing whose they are: a leaked one must not wait for the store."""
        if not self._keys.mark_revoked([one.key_id for one in revocations]):
            raise error
        return [
            {"key_id": one.key_id, "error": unwritten(one.key_id, error)} for one in revocations
        ]

    def _change(
        self,
        rows: list[Row],
        shards: Sequence[int],
        edit_for: Callable[[Sequence[int]], Edit],
        *,
        told: bool = True,
    ) -> list[Row]:
        """Write shard by shard; return the rows of those that could not be."""
        failed = []
        for shard in sorted(set(shards)):
            waiting = list(_in_parts(place for place, one in enumerate(shards) if one == shard))
            while waiting:
                some = waiting.pop(0)
                try:
                    outcome = self._context.change_ring(shard, edit_for(some))
                except (SecretStoreError, AuthError) as exc:
                    half = len(some) // 2
                    if half and isinstance(exc, DocumentFullError):
                        waiting[:0] = [some[:half], some[half:]]  # fewer audit records may fit
                        continue
                    for place in some:
                        rows[place]["error"] = str(exc)
                        failed.append(rows[place])
                    continue
                outcome = replace(outcome, propagated=outcome.propagated and told)
                for place in some:
                    rows[place] |= answered({}, outcome)
        return failed


def _check_revocation(one: Revocation) -> None:
    check_key_id(one.key_id)
    checked_note(one.reason)


def _check_length(rows: Sequence[object]) -> None:
    if not 1 <= len(rows) <= MAX_ROWS:
        raise AdminRefusedError(f"a list has 1 to {MAX_ROWS} rows, this one has {len(rows)}")


def _each_row(rows: Sequence[Any], make: Callable[[Any], Any]) -> list[Any]:
    made = []
    for number, row in enumerate(rows, start=1):
        try:
            made.append(make(row))
        except AdminRefusedError as exc:
            raise AdminRefusedError(f"row {number}: {exc}; nothing was changed") from exc
    return made


def _in_parts(places: Iterator[int]) -> Iterator[list[int]]:
    while part := list(islice(places, ROWS_AT_ONCE)):
        yield part
