"""The admin's operations on keys: issue, list, change, rotate, revoke.

A whole key is in the answer of `issue` and `rotate` and nowhere else. Revocation marks the key in
Redis first, so that its next request is refused while the keyring is still being written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from auth.admin_checks import checked_cidrs, checked_expiry, checked_name, checked_scopes
from auth.admin_context import AdminContext, answered
from auth.api_key import ApiKey, digest, mint, parse
from auth.changes import Entry
from auth.directory import Directory
from auth.errors import AdminRefusedError, AuthError, InvalidApiKeyError
from auth.keyring import (
    KeyRecord,
    KeyRing,
    KeyState,
    StoredSecret,
    settled,
    shard_of,
)
from auth.principal import Rotation, Scope
from auth.propagation import LastUse, PropagationUnavailableError
from auth.secrets import SecretStoreError
from auth.views import DAY_SECONDS, audit_view, key_view, old_secret_ends, state_of

DEADLINE_SECONDS = 7 * DAY_SECONDS
GRACE_SECONDS = 3600
MAX_DEADLINE_SECONDS = 90 * DAY_SECONDS


@dataclass(frozen=True, slots=True)
class KeySettings:
    """What may be set on a key; None leaves it as it is."""

    name: str | None = None
    plan: str | None = None
    tenants_plan: bool = False  # take the tenant's plan again
    scopes: frozenset[Scope] | None = None
    expires_at: int | None = None
    never_expires: bool = False
    allowed_cidrs: tuple[str, ...] | None = None


class KeyAdmin:
    """Each operation returns the key as it then is; AdminRefusedError says why not."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    def issue(
        self,
        tenant: str,
        name: str,
        scopes: Iterable[str],
        *,
        plan: str | None = None,
        expires_at: int | None = None,
        allowed_cidrs: Iterable[str] = (),
    ) -> dict[str, Any]:
        """Issue a key; the answer holds the whole key, for the only time."""
        context, now = self._context, self._context.now()
        directory = context.directory()
        owner = context.tenant(directory, tenant)
        context.check_plan(plan)
        key = mint(context.label)
        record = KeyRecord(
            key_id=key.key_id,
            tenant=tenant,
            name=checked_name(name),
            scopes=checked_scopes(scopes),
            label=context.label,
            created_at=now,
            secrets=(self._stored(key, directory),),
            plan=plan,
            expires_at=checked_expiry(expires_at, now),
            allowed_cidrs=checked_cidrs(allowed_cidrs),
        )

        def edit(ring: KeyRing) -> tuple[KeyRing, Entry]:
            entry = Entry("key.issue", key.key_id, None, audit_view(record))
            return ring.with_record(record), entry

        outcome = context.change_ring(shard_of(key.key_id, directory.shards), edit)
        return answered({"key": key.reveal(), **key_view(record, owner, now)}, outcome)

    def list(
        self, *, tenant: str | None = None, unused_days: int | None = None
    ) -> list[dict[str, Any]]:
        """Return keys, oldest first; with `unused_days` the active ones not used for so long."""
        context, now = self._context, self._context.now()
        directory = context.directory()
        if tenant is not None:
            context.tenant(directory, tenant)
        records = [
            record
            for record in context.records(directory)
            if tenant is None or record.tenant == tenant
        ]
        uses = self._last_uses(records)
        views = [
            key_view(
                record,
                directory.tenants[record.tenant],
                now,
                last_use=uses.get(record.key_id),
                first_use=self._first_use(record),
            )
            for record in records
        ]
        if unused_days is None:
            return views
        latest = now - unused_days * DAY_SECONDS
        return [
            view
            for view in views
            if view["state"] == "active" and (view["last_used_at"] or view["created_at"]) <= latest
        ]

    def show(self, key_id: str) -> dict[str, Any]:
        """Return one key."""
        directory = self._context.directory()
        record = self._context.record(directory, key_id)
        uses = self._last_uses([record])
        return key_view(
            record,
            directory.tenants[record.tenant],
            self._context.now(),
            last_use=uses.get(key_id),
            first_use=self._first_use(record),
        )

    def set(self, key_id: str, settings: KeySettings) -> dict[str, Any]:
        """Change what a key is called, may do, or until when and from where it works."""
        self._context.check_plan(settings.plan)
        now = self._context.now()

        def changed(record: KeyRecord) -> KeyRecord:
            if record.state is KeyState.REVOKED:
                raise AdminRefusedError(f"key {key_id} is revoked")
            expires_at = checked_expiry(settings.expires_at, now)
            cidrs = settings.allowed_cidrs
            return replace(
                record,
                name=record.name if settings.name is None else checked_name(settings.name),
                plan=None if settings.tenants_plan else settings.plan or record.plan,
                scopes=record.scopes if settings.scopes is None else settings.scopes,
                expires_at=None if settings.never_expires else expires_at or record.expires_at,
                allowed_cidrs=record.allowed_cidrs if cidrs is None else checked_cidrs(cidrs),
            )

        return self._change(key_id, "key.set", changed)

    def rotate(
        self,
        key_id: str,
        *,
        deadline_seconds: int = DEADLINE_SECONDS,
        grace_seconds: int = GRACE_SECONDS,
        force: bool = False,
    ) -> dict[str, Any]:
        """Give a key a new secret; the answer holds the whole key, for the only time.

        The old secret works until `grace_seconds` after the first use of the new one, and never
        past the deadline; a deadline of 0 ends it at once. While two secrets live, another
        rotation is refused unless forced: then the older of the two ends now.
        """
        context, now = self._context, self._context.now()
        if not 0 <= deadline_seconds <= MAX_DEADLINE_SECONDS:
            raise AdminRefusedError(f"a deadline is at most {MAX_DEADLINE_SECONDS // DAY_SECONDS}d")
        if not 0 <= grace_seconds <= MAX_DEADLINE_SECONDS:
            raise AdminRefusedError(f"a grace is at most {MAX_DEADLINE_SECONDS // DAY_SECONDS}d")
        directory = context.directory()
        key = mint(context.label, context.record(directory, key_id).key_id)
        stored = self._stored(key, directory)

        def changed(record: KeyRecord) -> KeyRecord:
            if state_of(record, now) != "active":
                raise AdminRefusedError(f"key {key_id} is {state_of(record, now)}")
            current = self._settled(record, now)
            if current.rotation is not None and not force:
                raise AdminRefusedError(
                    f"key {key_id} has two live secrets: wait for the old one to end, cancel the "
                    "rotation, or use --force to end the old one now"
                )
            if deadline_seconds == 0:
                return replace(current, secrets=(stored,), rotation=None)
            # A later rotation begins later, so that its first use is told from an earlier one's.
            earlier = record.rotation.started_at if record.rotation is not None else 0
            started_at = max(now, earlier + 1)
            rotation = Rotation(started_at, now + deadline_seconds, grace_seconds)
            return replace(current, secrets=(current.secrets[-1], stored), rotation=rotation)

        view = {"key": key.reveal(), **self._change(key_id, "key.rotate", changed)}
        return self._forwarded(view, lambda _: key.reveal())

    def cancel_rotation(self, key_id: str) -> dict[str, Any]:
        """Take back a new secret that was never used; the old one is the only one again."""
        now = self._context.now()
        old: list[StoredSecret] = []

        def changed(record: KeyRecord) -> KeyRecord:
            current = settled(record, now)
            if current.rotation is None:
                raise AdminRefusedError(f"key {key_id} is not being rotated")
            if self._first_use(current, needed=True) is not None:
                raise AdminRefusedError(f"the new secret of key {key_id} has been used")
            old[:] = [current.secrets[0]]
            return replace(current, secrets=(current.secrets[0],), rotation=None)

        view = self._change(key_id, "key.cancel-rotation", changed)
        return self._forwarded(view, lambda user: self._kept_key(user, old[0]))

    def revoke(self, key_id: str, reason: str | None = None) -> dict[str, Any]:
        """Refuse a key for ever, from its next request on."""
        context, now = self._context, self._context.now()
        tenant = context.record(context.directory(), key_id).tenant
        marked = self._mark_revoked(tenant, key_id)

        def changed(record: KeyRecord) -> KeyRecord:
            if record.state is KeyState.REVOKED:
                return record
            return replace(
                record,
                state=KeyState.REVOKED,
                revoked_at=now,
                secrets=record.secrets[-1:],
                rotation=None,
            )

        return self._change(key_id, "key.revoke", changed, note=reason, told=marked)

    def holds(self, key: ApiKey) -> KeyRecord:
        """Return the record of a live key. Raise AdminRefusedError if it is nobody's."""
        context = self._context
        directory = context.directory()
        record = context.record(directory, key.key_id)
        peppers = {one: context.pepper(one) for one in directory.pepper_ids}
        ring = KeyRing({record.key_id: record})
        if state_of(record, context.now()) != "active" or not ring.verify(
            key.key_id, key.secret, peppers
        ):
            raise AdminRefusedError(f"that is not a live key of id {key.key_id}")
        return record

    # -- helpers ----------------------------------------------------------------------------

    def _stored(self, key: ApiKey, directory: Directory) -> StoredSecret:
        """Return what the keyring keeps of a key's secret."""
        context = self._context
        hexed = digest(key.secret, context.pepper(directory.pepper_id))
        return StoredSecret(hexed, directory.pepper_id, context.now(), key.tail)

    def _settled(self, record: KeyRecord, now: int) -> KeyRecord:
        """Return the record without a rotation that is over, by deadline or by grace."""
        current = settled(record, now)
        ends = old_secret_ends(current, self._first_use(current))
        if ends is None or now < ends:
            return current
        return replace(current, secrets=current.secrets[-1:], rotation=None)

    def _first_use(self, record: KeyRecord, *, needed: bool = False) -> int | None:
        """Return when the new secret of a rotation was first used, as far as Redis knows."""
        if record.rotation is None:
            return None
        try:
            if self._context.propagation is not None:
                started_at = record.rotation.started_at
                return self._context.propagation.first_use(record.tenant, record.key_id, started_at)
        except PropagationUnavailableError:
            pass
        if needed:
            raise AdminRefusedError("Redis does not answer: only it knows if the secret was used")
        return None

    def _last_uses(self, records: Iterable[KeyRecord]) -> dict[str, LastUse]:
        by_tenant: dict[str, list[str]] = {}
        for record in records:
            by_tenant.setdefault(record.tenant, []).append(record.key_id)
        uses: dict[str, LastUse] = {}
        with suppress(PropagationUnavailableError):
            if self._context.propagation is not None:
                for tenant, key_ids in by_tenant.items():
                    uses |= self._context.propagation.last_used(tenant, key_ids)
        return uses

    def _mark_revoked(self, tenant: str, key_id: str) -> bool:
        try:
            if self._context.propagation is not None:
                self._context.propagation.revoke(tenant, key_id)
                return True
        except PropagationUnavailableError:
            pass
        return False

    def _forwarded(
        self, view: dict[str, Any], key_for: Callable[[str], str | None]
    ) -> dict[str, Any]:
        """Keep another key for the web users who use this one, so that they notice nothing."""
        store, key_id = self._context.users, view["key_id"]
        try:
            for user in self._context.web_users().values():
                key = key_for(user.name) if user.key_id == key_id else None
                if key is not None:
                    store.keep_key(user.name, key)
        except (SecretStoreError, AuthError) as exc:
            # The key has changed and must be shown; only the web app still has the other one.
            warning = f"the web app's copy of the key could not be changed: {exc}"
            return view | {"warnings": [*view.get("warnings", []), warning]}
        return view

    def _kept_key(self, user: str, secret: StoredSecret) -> str | None:
        """Return the kept key of a user whose secret this is."""
        pepper = self._context.pepper(secret.pepper_id)
        for text in self._context.users.kept_keys(user):
            with suppress(InvalidApiKeyError):
                if digest(parse(text).secret, pepper) == secret.digest:
                    return text
        return None

    def _change(
        self,
        key_id: str,
        action: str,
        changed: Callable[[KeyRecord], KeyRecord],
        *,
        note: str | None = None,
        told: bool = True,
    ) -> dict[str, Any]:
        context = self._context
        directory = context.directory()
        context.record(directory, key_id)
        done: list[KeyRecord] = []

        def edit(ring: KeyRing) -> tuple[KeyRing, Entry]:
            before = ring.get(key_id)
            if before is None:
                raise AdminRefusedError(f"there is no key {key_id}")
            after = changed(before)
            done[:] = [after]
            entry = Entry(action, key_id, audit_view(before), audit_view(after), note)
            return ring.with_record(after), entry

        outcome = context.change_ring(shard_of(key_id, directory.shards), edit)
        record = done[0]
        view = key_view(
            record,
            directory.tenants[record.tenant],
            context.now(),
            first_use=self._first_use(record),
        )
        return answered(view, replace(outcome, propagated=outcome.propagated and told))
