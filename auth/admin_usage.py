"""The admin's operations on usage: all of it as rows, and the ledger written again from the log.

Both work on Redis itself: without it they are refused. Rebuilding only ever raises a counter to
what the log adds up to, so it may be repeated, and lines that are missing take nothing away. It
counts what was settled: run it again when what was running at the time has ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import date
from typing import Any

from auth.admin_context import AdminContext
from auth.errors import AdminRefusedError
from auth.ledger import DayUsage, days_of, from_log
from auth.propagation import Propagation, PropagationUnavailableError

_TENANTS_OWN = ""  # in the place of a key: what a tenant with caps used in all


class UsageAdmin:
    """AdminRefusedError says why not."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    def export(
        self, tenant: str | None = None, first: date = date.min, last: date = date.max
    ) -> list[dict[str, Any]]:
        """Return what each key used on each day, oldest first, revoked keys too."""
        context, redis = self._context, self._redis()
        directory = context.directory()
        if tenant is not None:
            context.tenant(directory, tenant)
        names: dict[str, dict[str, str]] = {}
        for record in context.records(directory):
            if tenant in (None, record.tenant):
                names.setdefault(record.tenant, {})[record.key_id] = record.name
        rows = []
        for owner, keys in names.items():
            ledgers = _answered(lambda owner=owner, keys=keys: redis.ledgers(owner, keys))
            for (key_id, name), ledger in zip(keys.items(), ledgers, strict=True):
                for used in days_of(key_id, ledger, first, last):
                    row = asdict(used) | {"day": used.day.isoformat()}
                    rows.append({"day": "", "tenant": owner, "key_id": "", "name": name} | row)
        return sorted(rows, key=lambda row: (row["day"], row["tenant"], row["key_id"]))

    def rebuild(self, lines: Iterable[str]) -> dict[str, Any]:
        """Write the ledger again from the log lines of settled and refused requests."""
        told, redis = from_log(lines), self._redis()
        tenants = self._context.directory().tenants
        owned: dict[str, dict[date, DayUsage]] = {}
        for (tenant, key_id), days in told.days.items():
            _answered(lambda t=tenant, k=key_id, d=days: redis.raise_ledger(t, k, d))
            if tenant in tenants and tenants[tenant].caps is not None:
                held = owned.setdefault(tenant, {})
                for one in days:
                    held[one.day] = _sum(held.get(one.day), one)
        for tenant, by_day in owned.items():
            days = list(by_day.values())
            _answered(lambda t=tenant, d=days: redis.raise_ledger(t, _TENANTS_OWN, d))
        return {
            "settled": told.settled,
            "refused": told.refused,
            "keys": len(told.days),
            "chars": sum(one.chars for days in told.days.values() for one in days),
            "unreadable_lines": told.unreadable,
        }

    def _redis(self) -> Propagation:
        if self._context.propagation is None:
            raise AdminRefusedError("usage is kept in Redis, and there is none")
        return self._context.propagation


def _sum(one: DayUsage | None, other: DayUsage) -> DayUsage:
    if one is None:
        return other
    return DayUsage(
        _TENANTS_OWN,
        one.day,
        one.chars + other.chars,
        one.requests + other.requests,
        one.refused + other.refused,
    )


def _answered(call: Any) -> Any:
    try:
        return call()
    except PropagationUnavailableError as exc:
        raise AdminRefusedError(f"usage is kept in Redis, which does not answer: {exc}") from exc
