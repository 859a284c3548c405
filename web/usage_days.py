"""What GET /v1/usage says, day by day without gaps and key by key. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

MAX_DAYS = 400


@dataclass(frozen=True, slots=True)
class DayOfUse:
    """What was used on one day."""

    chars: int = 0
    requests: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class UsageDays:
    """Every day from the first to the last, and the sums of the time."""

    days: list[date]
    used: list[DayOfUse]
    total_chars: int
    total_requests: int
    total_refused: int

    @property
    def chars(self) -> list[int]:
        return [day.chars for day in self.used]


def usage_days(document: Any) -> UsageDays | None:
    """Return the days of an answer grouped by day; None if it is not one."""
    if not isinstance(document, Mapping):
        return None
    try:
        first = date.fromisoformat(document["from"])
        last = date.fromisoformat(document["to"])
        used = {date.fromisoformat(item["day"]): _used(item) for item in document["items"]}
        total = _used(document["total"])
    except (KeyError, TypeError, ValueError):
        return None
    count = min(MAX_DAYS, max(0, (last - first).days + 1))
    days = [first + timedelta(days=number) for number in range(count)]
    return UsageDays(
        days=days,
        used=[used.get(day, DayOfUse()) for day in days],
        total_chars=total.chars,
        total_requests=total.requests,
        total_refused=total.refused,
    )


def month_query(days: UsageDays | None) -> dict[str, str]:
    """Return what asks for the keys of the month of the last day (the API's own today)."""
    if days is None or not days.days:
        return {"group_by": "key"}
    last = days.days[-1]
    return {
        "group_by": "key",
        "from": last.replace(day=1).isoformat(),
        "to": last.isoformat(),
    }


def key_rows(document: Any) -> list[dict[str, Any]]:
    """Return the keys of an answer grouped by key, those that wrote most first."""
    items = document.get("items") if isinstance(document, Mapping) else None
    rows = []
    for item in items if isinstance(items, list) else []:
        try:
            used = _used(item)
        except (KeyError, TypeError, ValueError):
            continue
        rows.append(
            {
                "Key": str(item.get("name") or item.get("key_id") or ""),
                "Characters": used.chars,
                "Generations": used.requests,
                "Refused": used.refused,
            }
        )
    return sorted(rows, key=lambda row: -row["Characters"])


def as_csv(usage: UsageDays) -> str:
    """Return every day as a line; numbers and dates only, so no cell can be a formula."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["day", "chars", "requests", "refused"])
    for day, used in zip(usage.days, usage.used, strict=True):
        lines.writerow([day.isoformat(), used.chars, used.requests, used.refused])
    return text.getvalue()


def _used(item: Mapping[str, Any]) -> DayOfUse:
    return DayOfUse(int(item["chars"]), int(item["requests"]), int(item["refused"]))
