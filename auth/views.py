"""How tenants, keys and users are told to people and programs: the field names of the HTTP API.

Pure. Nothing here holds a secret or a digest, so every view may be logged and audited. Times are
Unix seconds.
"""

from __future__ import annotations

from typing import Any

from auth.api_key import mask
from auth.directory import Tenant
from auth.keyring import KeyRecord, settled
from auth.propagation import LastUse
from auth.users import User

WARNING_DAYS = (14, 3, 1)  # before a key expires
DAY_SECONDS = 86_400


def tenant_view(tenant: Tenant) -> dict[str, Any]:
    """Return a tenant as shown."""
    return {
        "tenant": tenant.name,
        "plan": tenant.plan,
        "state": tenant.state.value,
        "caps": {} if tenant.caps is None else tenant.caps.given,
        "created_at": tenant.created_at,
    }


def key_view(
    record: KeyRecord,
    tenant: Tenant,
    now: int,
    *,
    last_use: LastUse | None = None,
    first_use: int | None = None,
) -> dict[str, Any]:
    """Return a key as shown; `first_use` is of its rotation's new secret."""
    return {
        "key_id": record.key_id,
        "masked": mask(record.key_id, record.label, record.secrets[-1].tail),
        "tenant": record.tenant,
        "name": record.name,
        "plan": record.plan or tenant.plan,
        "limits": dict(record.limits),
        "scopes": sorted(scope.value for scope in record.scopes),
        "label": record.label,
        "state": state_of(record, now),
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "expires_in_days": warning_days(record.expires_at, now),
        "allowed_cidrs": list(record.allowed_cidrs),
        "forwarded_for": list(record.forwarded_for),
        "last_used_at": None if last_use is None else last_use.at,
        "last_used_from": None if last_use is None else last_use.address,
        "rotation": _rotation(record, now, first_use),
    }


def audit_view(record: KeyRecord) -> dict[str, Any]:
    """Return what the audit chain says of a key: what was set, not how it is doing."""
    rotation = record.rotation
    return {
        "tenant": record.tenant,
        "name": record.name,
        "plan": record.plan,
        "limits": dict(record.limits),
        "scopes": sorted(scope.value for scope in record.scopes),
        "label": record.label,
        "state": record.state.value,
        "expires_at": record.expires_at,
        "allowed_cidrs": list(record.allowed_cidrs),
        "forwarded_for": list(record.forwarded_for),
        "secrets": [[one.pepper_id, one.created_at, one.tail] for one in record.secrets],
        "rotation": None if rotation is None else rotation.as_list(),
    }


def user_view(user: User) -> dict[str, Any]:
    """Return a web user as shown."""
    return {
        "user": user.name,
        "tenant": user.tenant,
        "roles": sorted(role.value for role in user.roles),
        "state": "disabled" if user.disabled else "active",
        "key_id": user.key_id,
        "must_change_password": user.must_change_password,
        "created_at": user.created_at,
        "password_changed_at": user.password_changed_at,
    }


def state_of(record: KeyRecord, now: int) -> str:
    """Return active, expired or revoked."""
    if record.expires_at is not None and now >= record.expires_at and record.revoked_at is None:
        return "expired"
    return record.state.value


def warning_days(expires_at: int | None, now: int) -> int | None:
    """Return within how many days (14, 3 or 1) a key expires; None if it is not that near."""
    if expires_at is None or now >= expires_at:
        return None
    near = [days for days in WARNING_DAYS if expires_at - now <= days * DAY_SECONDS]
    return min(near) if near else None


def old_secret_ends(record: KeyRecord, first_use: int | None) -> int | None:
    """Return when the old secret of a rotation stops working; None if there is no rotation."""
    rotation = record.rotation
    if rotation is None:
        return None
    if first_use is None:
        return rotation.deadline
    return min(rotation.deadline, first_use + rotation.grace_seconds)


def _rotation(record: KeyRecord, now: int, first_use: int | None) -> dict[str, Any] | None:
    current = settled(record, now)
    ends = old_secret_ends(current, first_use)
    if current.rotation is None or ends is None or now >= ends:
        return None
    return {
        "started_at": current.rotation.started_at,
        "deadline": current.rotation.deadline,
        "grace_seconds": current.rotation.grace_seconds,
        "first_used_at": first_use,
        "old_secret_ends_at": ends,
    }
