"""What GET /v1/usage says, day by day without gaps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

MAX_DAYS = 400


@dataclass(frozen=True, slots=True)
class UsageDays:
    """Characters of each day from the first to the last, and the sums of the time."""

    days: list[date]
    chars: list[int]
    total_chars: int
    total_requests: int
    total_refused: int


def usage_days(document: Any) -> UsageDays | None:
    """Return the days of an answer grouped by day; None if it is not one."""
    if not isinstance(document, Mapping):
        return None
    try:
        first = date.fromisoformat(document["from"])
        last = date.fromisoformat(document["to"])
        used = {date.fromisoformat(item["day"]): int(item["chars"]) for item in document["items"]}
        total = {name: int(document["total"][name]) for name in ("chars", "requests", "refused")}
    except (KeyError, TypeError, ValueError):
        return None
    count = min(MAX_DAYS, max(0, (last - first).days + 1))
    days = [first + timedelta(days=number) for number in range(count)]
    return UsageDays(
        days=days,
        chars=[used.get(day, 0) for day in days],
        total_chars=total["chars"],
        total_requests=total["requests"],
        total_refused=total["refused"],
    )
