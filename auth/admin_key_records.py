"""What the operations on keys share: a record's change, and what Redis knows of the key.

Redis being away never stops a change: what it alone knows is then unknown, and the answer says
that running instances were not told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from auth.admin_context import AdminContext, answered
from auth.api_key import ApiKey, digest
from auth.changes import Entry
from auth.directory import Directory
from auth.errors import AdminRefusedError
from auth.keyring import PEPPER_ENDED, KeyRecord, KeyRing, KeyState, StoredSecret, shard_of
from auth.propagation import LastUse, Propagation, PropagationUnavailableError
from auth.views import DAY_SECONDS, audit_view, key_view

REPEAT = "repeat the command within 7 days, or it comes back to life"
NOT_HEARD = "Redis does not answer: last uses, and revocations not written yet, are not shown"
ROTATE = "a key whose pepper ended is refused: `keys rotate` gives it a secret under the new one"


@dataclass(frozen=True, slots=True)
class Heard:
    """What Redis alone knows of keys: their last use, and which it has refused."""

    uses: Mapping[str, LastUse] = field(default_factory=dict)
    marked: Collection[str] = ()
    answered: bool = True


class KeyRecords:
    """Reads and changes records; AdminRefusedError says why not."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    def first_use(self, record: KeyRecord, *, needed: bool = False) -> int | None:
        """Return when the new secret of a rotation was first used, as far as is known.

        An instance records it some seconds later; until then Redis alone knows. Where the answer
        is `needed`, raise AdminRefusedError if Redis cannot know either.
        """
        if record.rotation is None:
            return None
        if record.rotation.first_used_at is not None:
            return record.rotation.first_used_at
        propagation = self._context.propagation
        rotation = record.tenant, record.key_id, record.rotation.started_at
        try:
            if propagation is not None:
                used_at = propagation.first_use(*rotation)
                if used_at is None and needed and not propagation.knows_rotation(*rotation):
                    raise AdminRefusedError(
                        "Redis was away or emptied since the rotation began, so that nobody "
                        "knows if the new secret was used: wait for the old one to end, or rotate "
                        "with --force"
                    )
                return used_at
        except PropagationUnavailableError:
            pass
        if needed:
            raise AdminRefusedError("Redis does not answer: only it knows if the secret was used")
        return None

    def rotation_begun(self, record: KeyRecord) -> None:
        """Have Redis know that it would hear of the new secret's first use, before there is one."""
        if record.rotation is None:
            return
        seconds = record.rotation.deadline - self._context.now() + DAY_SECONDS
        place = record.tenant, record.key_id, record.rotation.started_at
        self._told(lambda propagation: propagation.rotation_begun(*place, seconds))

    def heard(self, records: Collection[KeyRecord]) -> Heard:
        """Return what Redis alone knows of the keys."""
        uses: dict[str, LastUse] = {}
        marked: set[str] = set()
        try:
            if self._context.propagation is not None:
                for tenant, key_ids in _by_tenant(records).items():
                    uses |= self._context.propagation.last_used(tenant, key_ids)
                    marked |= self._context.propagation.revoked(tenant, key_ids)
        except PropagationUnavailableError:
            return Heard(answered=False)
        return Heard(uses, marked)

    def uses_since(self) -> int:
        """Return since when (Unix seconds) uses were noted. Raise AdminRefusedError if unknown."""
        propagation, since = self._context.propagation, None
        with suppress(PropagationUnavailableError):
            if propagation is not None:
                since = propagation.uses_since(self._context.names.keyring)
        if since is None:
            raise AdminRefusedError(
                "Redis does not answer, or was emptied just now, and only Redis knows when keys "
                "were used: nobody can say which were not"
            )
        return since

    def last_used_at(self, tenant: str, key_id: str) -> int | None:
        """Return when a key was last admitted (Unix seconds), as far as Redis knows."""
        propagation = self._context.propagation
        if propagation is None:
            return None
        with suppress(PropagationUnavailableError):
            use = propagation.last_used(tenant, [key_id]).get(key_id)
            return None if use is None else use.at
        return None

    def mark_revoked(self, key_ids: Iterable[str]) -> bool:
        """Have the next requests of keys refused, whoever's they are; say if Redis was told."""
        return self._told(lambda propagation: propagation.revoke(None, *key_ids))

    def mark_records_revoked(self, records: Iterable[KeyRecord]) -> bool:
        """As `mark_revoked`, with one marker for each key instead of one for each hash tag."""

        def mark(propagation: Propagation) -> None:
            for tenant, key_ids in _by_tenant(records).items():
                propagation.revoke(tenant, *key_ids)

        return self._told(mark)

    def _told(self, tell: Callable[[Propagation], None]) -> bool:
        if self._context.propagation is None:
            return False
        try:
            tell(self._context.propagation)
        except PropagationUnavailableError:
            return False
        return True

    def view(self, record: KeyRecord, directory: Directory, heard: Heard) -> dict[str, Any]:
        """Return a key as shown, with what keeps it from being used or is not known of it."""
        now, tenant = self._context.now(), directory.tenants[record.tenant]
        last_use, first_use = heard.uses.get(record.key_id), self.first_use(record)
        view = key_view(record, tenant, now, last_use=last_use, first_use=first_use)
        if record.state is KeyState.REVOKED:
            return view
        if record.key_id in heard.marked:
            pending = f"{_pending(record)}: {REPEAT}"
            return view | {"state": KeyState.REVOKED.value, "written": False, "warnings": [pending]}
        warnings = [] if heard.answered else [NOT_HEARD]
        proven = any(directory.pepper_lives(one.pepper_id, now) for one in record.secrets)
        if view["state"] == KeyState.ACTIVE.value and not proven:
            view["state"] = PEPPER_ENDED
            warnings.append(ROTATE)
        return view | ({"warnings": warnings} if warnings else {})

    def check_not_marked(self, record: KeyRecord) -> None:
        """Refuse to change a key that Redis has refused, as far as Redis knows: it is dead."""
        if record.state is not KeyState.REVOKED and record.key_id in self.heard([record]).marked:
            raise AdminRefusedError(
                f"{_pending(record)}: a dead key is not changed. Repeat `keys revoke` so that it "
                "is written, and issue another key"
            )

    def change(
        self,
        key_id: str,
        action: str,
        changed: Callable[[KeyRecord], KeyRecord],
        *,
        note: str | None = None,
        told: bool = True,
    ) -> dict[str, Any]:
        """Change one key's record, and return the key as it then is.

        `changed` may be called several times; what it raises ends the change.
        """
        context = self._context
        directory = context.directory()
        context.record(directory, key_id)
        done: list[KeyRecord] = []

        def edit(ring: KeyRing) -> tuple[KeyRing, list[Entry]]:
            before = ring.get(key_id)
            if before is None:
                raise AdminRefusedError(f"there is no key {key_id}")
            after = changed(before)
            done[:] = [after]
            gone = after.state is KeyState.REVOKED
            entry = Entry(action, key_id, audit_view(before), audit_view(after), note, gone)
            return ring.with_record(after), [entry]

        outcome = context.change_ring(shard_of(key_id, directory.shards), edit)
        record = done[0]
        view = key_view(
            record,
            directory.tenants[record.tenant],
            context.now(),
            last_use=self.heard([record]).uses.get(key_id),
            first_use=self.first_use(record),
        )
        return answered(view, replace(outcome, propagated=outcome.propagated and told))


def _pending(record: KeyRecord) -> str:
    return f"key {record.key_id} is revoked, not yet written"


def _by_tenant(records: Iterable[KeyRecord]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for record in records:
        found.setdefault(record.tenant, []).append(record.key_id)
    return found


def stored(key: ApiKey, pepper_id: str, pepper: bytes, now: int) -> StoredSecret:
    """Return what the keyring keeps of a key's secret."""
    return StoredSecret(digest(key.secret, pepper), pepper_id, now, key.tail)
