"""Which plans are in use, and which of them the plans file lacks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from auth.directory import Tenant, TenantState
from auth.keyring import KeyRecord, KeyState
from auth.plans import Plan


def lacking_plans(
    tenants: Mapping[str, Tenant], records: Iterable[KeyRecord], plans: Mapping[str, Plan]
) -> str | None:
    """Return one line that names each plan in use that is lacking, and by whom; None if none is."""
    users: dict[str, list[str]] = {}
    active = {name: one for name, one in tenants.items() if one.state is TenantState.ACTIVE}
    for name, tenant in active.items():
        if tenant.plan not in plans:
            users.setdefault(tenant.plan, []).append(f"tenant {name}")
    for record in records:
        of_its_own = record.plan is not None and record.plan not in plans
        if of_its_own and record.state is KeyState.ACTIVE and record.tenant in active:
            users.setdefault(record.plan or "", []).append(f"key {record.key_id}")
    if not users:
        return None
    named = "; ".join(f"{plan} ({_few(users[plan])})" for plan in sorted(users))
    return f"PLANS_FILE lacks plans that are in use: {named}"


def _few(names: list[str], most: int = 5) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
