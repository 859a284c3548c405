"""The directory: tenants, how many shards the keyring has, and which peppers are live.

Pure. One document of the secret store; a body that `to_body` could not have written is refused
whole with MalformedKeyringError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from auth.config import MAX_SHARDS
from auth.errors import AdminRefusedError, MalformedKeyringError
from auth.fields import NAME, Fields
from auth.plans import CAPS, Caps, checked_limits

PEPPER_ID = re.compile(r"[a-z0-9]{1,16}")
_FIELDS = ("shards", "pepper_id", "pepper_ids", "pepper_deadlines", "tenants")


class TenantState(StrEnum):
    """Whether a tenant's keys work."""

    ACTIVE = "active"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer: the owner of keys and of usage; `plan` is what its keys have by default."""

    name: str
    plan: str
    created_at: int
    state: TenantState = TenantState.ACTIVE
    caps: Caps | None = None  # on what its keys use together


@dataclass(frozen=True, slots=True)
class Directory:
    """What must be known before any shard can be read."""

    shards: int
    pepper_id: str  # under which new secrets are digested
    pepper_ids: tuple[str, ...]  # every pepper that a live secret may be digested under
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    pepper_deadlines: Mapping[str, int] = field(default_factory=dict)  # of those being replaced

    def peppers_at(self, now: float, held: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return the peppers that count: all but those replaced whose deadline has passed."""
        deadlines = self.pepper_deadlines
        if not deadlines:
            return held
        return {one: pepper for one, pepper in held.items() if now < deadlines.get(one, now + 1)}

    def pepper_lives(self, pepper_id: str, now: float) -> bool:
        """Say whether what is digested under a pepper can still be proven."""
        ends_at = self.pepper_deadlines.get(pepper_id)
        return pepper_id in self.pepper_ids and (ends_at is None or now < ends_at)

    def with_tenant(self, tenant: Tenant) -> Directory:
        """Return a directory in which `tenant` is new or replaces the one of its name."""
        return replace(self, tenants=MappingProxyType({**self.tenants, tenant.name: tenant}))


def check_shards(wanted: int | None, held: int) -> None:
    """Refuse to work on a keyring whose setting says what it is not: it cannot be made so."""
    if wanted not in (None, held):
        raise AdminRefusedError(
            f"KEYRING_SHARDS is {wanted}, but this keyring was set up with {held} shards, which "
            f"stay: set it to {held} or leave it out"
        )


def to_body(directory: Directory) -> dict[str, Any]:
    """Return the directory as a document's body."""
    return {
        "shards": directory.shards,
        "pepper_id": directory.pepper_id,
        "pepper_ids": list(directory.pepper_ids),
        "pepper_deadlines": dict(directory.pepper_deadlines),
        "tenants": {name: _tenant_to_body(one) for name, one in directory.tenants.items()},
    }


def _tenant_to_body(tenant: Tenant) -> dict[str, Any]:
    body = {"plan": tenant.plan, "created_at": tenant.created_at, "state": tenant.state.value}
    return body if tenant.caps is None else body | {"caps": tenant.caps.given}


def from_body(body: Mapping[str, Any]) -> Directory:
    """Return the directory that a document's body holds. Raise MalformedKeyringError."""
    try:
        fields = Fields("directory", body, _FIELDS)
        shards, pepper_ids = fields.integer("shards"), fields.texts("pepper_ids")
        if not 1 <= shards <= MAX_SHARDS:
            raise ValueError(f"directory.shards must be from 1 to {MAX_SHARDS}")
        if not all(PEPPER_ID.fullmatch(one) for one in pepper_ids):
            raise ValueError("directory.pepper_ids is wrong")
        pepper_id = fields.text("pepper_id")
        if pepper_id not in pepper_ids:
            raise ValueError("directory.pepper_id is not one of its pepper_ids")
        given = fields.value("pepper_deadlines") is not None  # older documents have none
        deadlines = fields.table("pepper_deadlines") if given else {}
        if not set(deadlines) <= set(pepper_ids) - {pepper_id} or not all(
            type(one) is int for one in deadlines.values()
        ):
            raise ValueError("directory.pepper_deadlines is wrong")
        tenants = {name: _tenant(name, one) for name, one in fields.table("tenants").items()}
    except ValueError as exc:
        raise MalformedKeyringError(str(exc)) from exc
    return Directory(shards, pepper_id, pepper_ids, MappingProxyType(tenants), deadlines)


def _tenant(name: str, value: object) -> Tenant:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a tenant")
    where = f"tenant {name}"
    fields = Fields(where, value, ("plan", "created_at", "state", "caps"))
    caps = dict(checked_limits(where, fields.optional_table("caps"), CAPS))
    return Tenant(
        name=name,
        plan=fields.text("plan"),
        created_at=fields.integer("created_at"),
        state=TenantState(fields.text("state")),
        caps=Caps(**caps) if caps else None,
    )
