"""The admin's operations through the API (`--api`): the same names, over HTTP, with an admin's key.

How the API is asked, and what becomes of its refusals, is auth/remote_call.py. What only the
stores can do (peppers, rights, the ledger from a log) is refused with the way to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any, NoReturn
from urllib.parse import quote

import structlog

from auth.admin_bulk import Revocation, Row
from auth.admin_keys import KeyOrder, KeySettings
from auth.errors import AdminRefusedError
from auth.remote_call import Remote
from auth.remote_users import RemoteUsers

AUDIT_RECORDS = 1000  # what the API shows of the chain at most

log = structlog.get_logger()


class RemoteTenants:
    """`auth.admin_tenants.TenantAdmin` over HTTP."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def add(self, name: str, plan: str) -> Any:
        return self._remote.change("POST", "/tenants", {"tenant": name, "plan": plan})

    def list(self) -> Any:
        return self._remote.ask("/tenants")["tenants"]

    def show(self, name: str) -> Any:
        return self._remote.ask(f"/tenants/{quote(name, safe='')}")

    def set_plan(self, name: str, plan: str) -> Any:
        return self._set(name, plan=plan)

    def disable(self, name: str) -> Any:
        return self._set(name, state="disabled")

    def enable(self, name: str) -> Any:
        return self._set(name, state="active")

    def _set(self, name: str, **body: str) -> Any:
        return self._remote.change("PATCH", f"/tenants/{quote(name, safe='')}", body)


class RemoteKeys:
    """`auth.admin_keys.KeyAdmin` over HTTP."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def issue(
        self,
        tenant: str,
        name: str,
        scopes: Iterable[str],
        *,
        plan: str | None = None,
        expires_at: int | None = None,
        allowed_cidrs: Iterable[str] = (),
    ) -> Any:
        body = {
            "tenant": tenant,
            "name": name,
            "scopes": list(scopes),
            "plan": plan,
            "expires_at": expires_at,
            "allowed_cidrs": list(allowed_cidrs),
        }
        return self._remote.change("POST", "/keys", body)

    def list(self, *, tenant: str | None = None, unused_days: int | None = None) -> Any:
        return self._remote.ask("/keys", {"tenant": tenant, "unused_days": unused_days})["keys"]

    def show(self, key_id: str) -> Any:
        return self._remote.ask(_key(key_id))

    def set(self, key_id: str, settings: KeySettings) -> Any:
        scopes, cidrs = settings.scopes, settings.allowed_cidrs
        body: dict[str, Any] = {
            "name": settings.name,
            "plan": settings.plan,
            "scopes": None if scopes is None else sorted(scopes),
            "expires_at": settings.expires_at,
            "allowed_cidrs": None if cidrs is None else list(cidrs),
        }
        body = {name: value for name, value in body.items() if value is not None}
        # Over HTTP a null says "the tenant's" and "never".
        body |= {"plan": None} if settings.tenants_plan else {}
        body |= {"expires_at": None} if settings.never_expires else {}
        return self._remote.change("PATCH", _key(key_id), body)

    def rotate(
        self, key_id: str, *, deadline_seconds: int, grace_seconds: int, force: bool = False
    ) -> Any:
        body = {
            "deadline_seconds": deadline_seconds,
            "grace_seconds": grace_seconds,
            "force": force,
        }
        return self._remote.change("POST", f"{_key(key_id)}/rotate", body)

    def cancel_rotation(self, key_id: str) -> Any:
        return self._remote.change("DELETE", f"{_key(key_id)}/rotation")

    def revoke(self, key_id: str, reason: str | None = None) -> Any:
        return self._remote.change("POST", f"{_key(key_id)}/revoke", {"reason": reason})


class RemoteLimits:
    """`auth.admin_limits.LimitsAdmin` over HTTP."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def set_key_limits(self, key_id: str, change: Mapping[str, int | None]) -> Any:
        return self._remote.change("PATCH", f"{_key(key_id)}/limits", change)

    def set_caps(self, tenant: str, change: Mapping[str, int | None]) -> Any:
        return self._remote.change("PATCH", f"/tenants/{quote(tenant, safe='')}/caps", change)


class RemoteUsage:
    """`auth.admin_usage.UsageAdmin` over HTTP; the ledger is rebuilt where Redis is."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def export(
        self, tenant: str | None = None, first: date = date.min, last: date = date.max
    ) -> Any:
        asked = {
            "tenant": tenant,
            "from": None if first == date.min else first.isoformat(),
            "to": None if last == date.max else last.isoformat(),
        }
        return self._remote.ask("/usage/export", asked)["rows"]

    def rebuild(self, _lines: Iterable[str]) -> NoReturn:
        _only_on_the_stores()


class RemoteBulk:
    """`auth.admin_bulk.KeyBulk` over HTTP: row by row, each an answer of its own."""

    def __init__(self, keys: RemoteKeys) -> None:
        self._keys = keys

    def issue(self, orders: Sequence[KeyOrder]) -> list[Row]:
        return [_tried(asdict(one), self._issue, one) for one in orders]

    def revoke(self, revocations: Sequence[Revocation]) -> list[Row]:
        return [_tried({"key_id": one.key_id}, self._revoke, one) for one in revocations]

    def _issue(self, one: KeyOrder) -> Any:
        return self._keys.issue(
            *(one.tenant, one.name, one.scopes),
            plan=one.plan,
            expires_at=one.expires_at,
            allowed_cidrs=one.allowed_cidrs,
        )

    def _revoke(self, one: Revocation) -> Any:
        return self._keys.revoke(one.key_id, one.reason)


class RemoteAdmin:
    """`auth.admin.Admin` over HTTP."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self.tenants, self.keys = RemoteTenants(remote), RemoteKeys(remote)
        self.bulk = RemoteBulk(self.keys)
        self.limits = RemoteLimits(remote)
        self.users = RemoteUsers(remote)
        self.usage = RemoteUsage(remote)

    def audit_records(self, limit: int | None = None) -> Any:
        """Return the end of the chain: the API shows a thousand records at most."""
        if limit is not None and limit > AUDIT_RECORDS:
            raise AdminRefusedError(
                f"the API shows {AUDIT_RECORDS} records at most: ask for fewer, or without --api"
            )
        records = self._remote.ask("/audit", {"limit": limit or AUDIT_RECORDS})["records"]
        if limit is None and len(records) == AUDIT_RECORDS:
            log.warning("audit.cut", reason=f"only the last {AUDIT_RECORDS}: all without --api")
        return records

    def verify_audit(self) -> Any:
        return self._remote.ask("/audit/verify")

    def failures(self, hours: int) -> Any:
        return self._remote.ask("/failures", {"hours": hours})

    def __getattr__(self, name: str) -> NoReturn:
        _only_on_the_stores()


def _only_on_the_stores() -> NoReturn:
    raise AdminRefusedError(
        "the API cannot do that: run it without --api, where the secret store and Redis are reached"
    )


def _key(key_id: str) -> str:
    return f"/keys/{quote(key_id, safe='')}"


def _tried(asked: Row, operation: Callable[[Any], Any], row: Any) -> Row:
    try:
        answer: Row = operation(row)
    except AdminRefusedError as exc:
        return asked | {"error": str(exc)}
    return answer
