"""The ledger: what each key used on each UTC day, as Redis keeps it and as the log tells it. Pure.

Redis has one hash for each key: `<day>:chars`, `<day>:requests`, `<day>:refused` and, from which
the month's quota is enforced, `<month>:chars`. Every request that was settled, or refused by a
limit, is one line of the log; from them the ledger can be written again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

SETTLED = "generation.settled"
REFUSALS = frozenset({"rate_limited", "quota_exceeded", "too_many_concurrent", "exceeds_plan"})
CHARGED_ROUTES = frozenset({"/generate", "/v1/completions"})


@dataclass(frozen=True, slots=True)
class DayUsage:
    """One key on one day."""

    key_id: str
    day: date
    chars: int = 0
    requests: int = 0  # admitted
    refused: int = 0


@dataclass(frozen=True, slots=True)
class LogUsage:
    """What log lines tell of usage, and how many lines told nothing that could be read."""

    days: Mapping[tuple[str, str], list[DayUsage]]  # by tenant and key
    settled: int
    refused: int
    unreadable: int


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


def from_log(lines: Iterable[str]) -> LogUsage:
    """Add up the lines of settled and refused requests; one that is told twice counts once.

    Lines are the service's JSON, bare or as Google Cloud Logging exports them (`jsonPayload`).
    """
    counted: dict[tuple[str, str, date], list[int]] = {}
    seen: set[str] = set()
    totals = [0, 0, 0]  # settled, refused, unreadable

    def count(line: Mapping[str, Any], day: date, *amounts: int) -> None:
        key = (str(line["tenant"]), str(line["key_id"]), day)
        held = counted.setdefault(key, [0, 0, 0])
        held[:] = [before + more for before, more in zip(held, amounts, strict=True)]

    for text in lines:
        if '"generation.settled"' not in text and '"request"' not in text:
            continue
        try:
            line = json.loads(text)
            line = line.get("jsonPayload", line)
            message = line.get("message")
            if message == SETTLED:
                if line["lease_id"] in seen:
                    continue
                seen.add(line["lease_id"])
                admitted = datetime.fromtimestamp(int(line["admitted_at_ms"]) // 1000, UTC)
                count(line, admitted.date(), int(line["charged_chars"]), 1, 0)
                totals[0] += 1
            elif message == "request" and line.get("code") in REFUSALS:
                if line.get("route") not in CHARGED_ROUTES or line["request_id"] in seen:
                    continue
                seen.add(line["request_id"])
                count(line, datetime.fromisoformat(line["time"]).astimezone(UTC).date(), 0, 0, 1)
                totals[1] += 1
        except (ValueError, KeyError, TypeError, AttributeError):
            totals[2] += 1
    days: dict[tuple[str, str], list[DayUsage]] = {}
    for (tenant, key_id, day), amounts in sorted(counted.items()):
        days.setdefault((tenant, key_id), []).append(DayUsage(key_id, day, *amounts))
    return LogUsage(days, *totals)
