"""The admin's operations on keys: issue, list, change, revoke; rotation is admin_rotation.py.

A whole key is in the answer of `issue` and `rotate` and nowhere else. Revocation marks the key in
Redis first, so that its next request is refused while the keyring is still being written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from auth.admin_checks import (
    checked_cidrs,
    checked_expiry,
    checked_name,
    checked_note,
    checked_scopes,
)
from auth.admin_context import AdminContext, answered, check_key_id
from auth.admin_key_records import REPEAT, KeyRecords, stored
from auth.admin_rotation import KeyRotations
from auth.api_key import ApiKey, mint
from auth.changes import Entry
from auth.directory import Directory
from auth.errors import AdminRefusedError, AuthError
from auth.keyring import KeyRecord, KeyRing, KeyState, shard_of
from auth.principal import Scope
from auth.secrets import SecretStoreError
from auth.views import DAY_SECONDS, audit_view, key_view, state_of


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


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """A key to be issued, as asked for; checked when it is made."""

    tenant: str
    name: str
    scopes: tuple[str, ...]
    plan: str | None = None
    expires_at: int | None = None
    allowed_cidrs: tuple[str, ...] = ()
    forwarded_for: tuple[str, ...] = ()  # the web user whose key it is


class KeyAdmin:
    """Each operation returns the key as it then is; AdminRefusedError says why not."""

    def __init__(self, context: AdminContext) -> None:
        self._context, self._records = context, KeyRecords(context)
        rotations = KeyRotations(context, self._records)
        self.rotate, self.cancel_rotation = rotations.rotate, rotations.cancel
        self.mark_revoked = self._records.mark_revoked
        self.mark_records_revoked = self._records.mark_records_revoked
        self.last_used_at = self._records.last_used_at

    def issue(
        self,
        tenant: str,
        name: str,
        scopes: Iterable[str],
        *,
        plan: str | None = None,
        expires_at: int | None = None,
        allowed_cidrs: Iterable[str] = (),
        forwarded_for: Iterable[str] = (),
    ) -> dict[str, Any]:
        """Issue a key; the answer holds the whole key, for the only time."""
        context, now = self._context, self._context.now()
        directory = context.directory()
        order = KeyOrder(
            *(tenant, name, tuple(scopes), plan, expires_at, tuple(allowed_cidrs)),
            forwarded_for=tuple(forwarded_for),
        )
        owner = context.tenant(directory, tenant)
        key, record = self.made(order, directory, context.pepper(directory.pepper_id), now)

        def edit(ring: KeyRing) -> tuple[KeyRing, list[Entry]]:
            entry = Entry("key.issue", key.key_id, None, audit_view(record))
            return ring.with_record(record), [entry]

        outcome = context.change_ring(shard_of(key.key_id, directory.shards), edit)
        return answered({"key": key.reveal(), **key_view(record, owner, now)}, outcome)

    def made(
        self, order: KeyOrder, directory: Directory, pepper: bytes, now: int
    ) -> tuple[ApiKey, KeyRecord]:
        """Return a new key and its record; nothing is stored. Raise AdminRefusedError."""
        context = self._context
        context.tenant(directory, order.tenant)
        context.check_plan(order.plan)
        key = mint(context.label)
        record = KeyRecord(
            key_id=key.key_id,
            tenant=order.tenant,
            name=checked_name(order.name),
            scopes=checked_scopes(order.scopes),
            label=context.label,
            created_at=now,
            secrets=(stored(key, directory.pepper_id, pepper, now),),
            plan=order.plan,
            expires_at=checked_expiry(order.expires_at, now),
            allowed_cidrs=checked_cidrs(order.allowed_cidrs),
            forwarded_for=order.forwarded_for,
        )
        return key, record

    def list(
        self, *, tenant: str | None = None, unused_days: int | None = None
    ) -> list[dict[str, Any]]:
        """Return keys, oldest first; with `unused_days` the active ones not used for so long.

        What Redis may have forgotten counts as used: such a list is what keys are revoked by.
        """
        context, now = self._context, self._context.now()
        directory = context.directory()
        if tenant is not None:
            context.tenant(directory, tenant)
        records = [
            record
            for record in context.records(directory)
            if tenant is None or record.tenant == tenant
        ]
        since = None if unused_days is None else self._records.uses_since()
        heard = self._records.heard(records)
        views = [self._records.view(record, directory, heard) for record in records]
        if unused_days is None or since is None:
            return views
        latest = now - unused_days * DAY_SECONDS
        return [
            view
            for view in views
            if view["state"] == "active"
            and (view["last_used_at"] or max(view["created_at"], since)) <= latest
        ]

    def show(self, key_id: str) -> dict[str, Any]:
        """Return one key."""
        directory = self._context.directory()
        record = self._context.record(directory, key_id)
        return self._records.view(record, directory, self._records.heard([record]))

    def set(self, key_id: str, settings: KeySettings) -> dict[str, Any]:
        """Change what a key is called, may do, or until when and from where it works."""
        self._context.check_plan(settings.plan)
        now = self._context.now()

        def changed(record: KeyRecord) -> KeyRecord:
            if record.state is KeyState.REVOKED:
                raise AdminRefusedError(f"key {key_id} is revoked")
            self._records.check_not_marked(record)
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

        return self._records.change(key_id, "key.set", changed)

    def revoke(self, key_id: str, reason: str | None = None) -> dict[str, Any]:
        """Refuse a key for ever, from its next request on.

        The store being away or unwritable does not keep a key alive: `written` is then false, and
        the warning says that the command has to be repeated.
        """
        now = self._context.now()
        check_key_id(key_id)
        checked_note(reason)
        marked = self._records.mark_revoked([key_id])  # first: this needs nothing of the store

        def changed(record: KeyRecord) -> KeyRecord:
            return revoked(record, now)

        try:
            return self._records.change(key_id, "key.revoke", changed, note=reason, told=marked)
        except AdminRefusedError:
            raise
        except (SecretStoreError, AuthError) as exc:
            if not marked:
                raise
            view = {"key_id": key_id, "state": KeyState.REVOKED.value, "written": False}
            return view | {"warnings": [unwritten(key_id, exc)]}

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
        self._records.check_not_marked(record)
        return record

    def forward(self, key_id: str, user: str, *, forwarded: bool) -> None:
        """Note on the key that the web app forwards it for a user, or no longer does."""

        def changed(record: KeyRecord) -> KeyRecord:
            others = tuple(one for one in record.forwarded_for if one != user)
            return replace(record, forwarded_for=(*others, user) if forwarded else others)

        self._records.change(key_id, "key.forward", changed)


def unwritten(key_id: str, error: object) -> str:
    """Say what became of a key that Redis has refused and the store does not know of."""
    return f"key {key_id} is refused from now on, but not written yet ({error}): {REPEAT}"


def revoked(record: KeyRecord, now: int) -> KeyRecord:
    """Return the record revoked; one that is keeps the time at which it was."""
    if record.state is KeyState.REVOKED:
        return record
    return replace(
        record,
        state=KeyState.REVOKED,
        revoked_at=now,
        secrets=record.secrets[-1:],
        rotation=None,
    )
