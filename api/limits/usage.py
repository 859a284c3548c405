"""What a key used, by UTC day: read from the very counters that enforce its quotas. Pure.

A request that still runs shows with all the characters it reserved until it is settled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

KEPT_DAYS = 400


@dataclass(frozen=True, slots=True)
class DayUsage:
    """One key on one day."""

    key_id: str
    day: date
    chars: int
    requests: int  # admitted
    refused: int


@dataclass(frozen=True, slots=True)
class Usage:
    """A sum over days or keys."""

    chars: int = 0
    requests: int = 0
    refused: int = 0


def days_of(key_id: str, ledger: Mapping[bytes, bytes], first: date, last: date) -> list[DayUsage]:
    """Return the days from `first` to `last`, both included, on which the key was used."""
    found: dict[date, dict[str, int]] = {}
    for field, value in ledger.items():
        name, _, counter = field.decode().partition(":")
        if len(name) == len("2026-11-23") and counter:
            found.setdefault(date.fromisoformat(name), {})[counter] = int(value)
    return [
        DayUsage(
            key_id,
            day,
            chars=max(0, counted.get("chars", 0)),
            requests=max(0, counted.get("requests", 0)),
            refused=counted.get("refused", 0),
        )
        for day, counted in sorted(found.items())
        if first <= day <= last
    ]


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
