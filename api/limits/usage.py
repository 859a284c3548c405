"""What a key used, by UTC day: read from the very counters that enforce its quotas. Pure.

A request that still runs shows with all the characters it reserved until it is settled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from auth.ledger import DayUsage

KEPT_DAYS = 400


@dataclass(frozen=True, slots=True)
class Usage:
    """A sum over days or keys."""

    chars: int = 0
    requests: int = 0
    refused: int = 0


def total(rows: Iterable[DayUsage]) -> Usage:
    rows = list(rows)
    return Usage(
        chars=sum(row.chars for row in rows),
        requests=sum(row.requests for row in rows),
        refused=sum(row.refused for row in rows),
    )


def by_day(rows: Iterable[DayUsage]) -> dict[date, Usage]:
    """Return the sums over all keys, by day, oldest first."""
    rows = list(rows)
    days = sorted({row.day for row in rows})
    return {day: total(row for row in rows if row.day == day) for day in days}


def by_key(rows: Iterable[DayUsage]) -> dict[str, Usage]:
    """Return the sums over all days, by key."""
    rows = list(rows)
    keys = sorted({row.key_id for row in rows})
    return {key_id: total(row for row in rows if row.key_id == key_id) for key_id in keys}
