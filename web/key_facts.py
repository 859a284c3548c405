"""What GET /v1/key says, as pairs of words and values that a person reads. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LIMIT_NAMES = {
    "requests_per_minute": "Requests a minute",
    "chars_per_minute": "Characters a minute",
    "chars_per_day": "Characters today",
    "chars_per_month": "Characters this month",
    "concurrency": "Generations at a time",
}


def key_facts(document: Mapping[str, Any], tail: str = "") -> list[tuple[str, str]]:
    """Return name and value of what is known; what the API did not say is left out.

    `tail` is the last characters of the key: what people recognise theirs by.
    """
    label, key_id = document.get("label"), document.get("key_id")
    scopes, cidrs = document.get("scopes"), document.get("allowed_cidrs")
    facts = [
        ("Name", document.get("name")),
        ("Key", f"qg_{label}_{key_id}_…{tail}" if label and key_id else None),
        ("Organisation", document.get("tenant")),
        ("Plan", document.get("plan")),
        ("May", ", ".join(map(str, scopes)) if isinstance(scopes, list) else None),
        ("Created", day(document.get("created_at"))),
        ("Last used", day(document.get("last_used_at")) or "never"),
        ("Expires", day(document.get("expires_at")) or "never"),
        ("Only from", ", ".join(map(str, cidrs)) if isinstance(cidrs, list) else None),
    ]
    return [(name, str(value)) for name, value in facts if value]


def rotation_facts(rotation: Mapping[str, Any]) -> str:
    """Return how a rotation stands: until when the old secret works."""
    sunset = rotation.get("sunset_at") or rotation.get("deadline")
    if not isinstance(sunset, int):
        return "Both the old and the new secret work."
    moment = time.strftime("%d %B %Y, %H:%M UTC", time.gmtime(sunset))
    grace = rotation.get("grace_seconds")
    if not can_be_cancelled(rotation) and isinstance(grace, int):
        return (
            f"The new secret is in use. The old one ends {grace // 60} minutes after the first "
            f"use of the new one, and on {moment} at the latest."
        )
    return f"The old secret works until {moment} at the latest; the new one works already."


def can_be_cancelled(rotation: Mapping[str, Any]) -> bool:
    """Say whether a rotation may still be taken back: not by who asked with its new secret."""
    return rotation.get("secret_used") != "new"


def expiry_warning(document: Mapping[str, Any]) -> str | None:
    """Return what to say of a key that expires within 14, 3 or 1 days; None if it does not."""
    days, expires = document.get("expires_in_days"), day(document.get("expires_at"))
    if not isinstance(days, int) or expires is None:
        return None
    within = "a day" if days == 1 else f"{days} days"
    return f"Your API key expires within {within}, on {expires}. Ask your administrator."


def day(moment: object) -> str | None:
    """Return Unix seconds or an ISO time as a day."""
    if isinstance(moment, int | float) and not isinstance(moment, bool):
        return time.strftime("%d %B %Y", time.gmtime(moment))
    return moment[:10] if isinstance(moment, str) and moment else None


@dataclass(frozen=True, slots=True)
class LimitBar:
    """One limit as a bar: how much of it is left."""

    name: str
    left: float  # 0..1
    said: str


def limit_bars(document: Mapping[str, Any]) -> list[LimitBar]:
    """Return the key's limits in the API's order; an entry that is no limit is left out."""
    limits = document.get("limits")
    return [bar for entry in (limits if isinstance(limits, list) else []) if (bar := _bar(entry))]


def cost_line(document: Mapping[str, Any], chars: int) -> tuple[str, bool]:
    """Return what `chars` characters cost against the limit that is nearest, and if it is enough.

    Empty while the limits are not known.
    """
    limits = document.get("limits")
    left = [
        (remaining, str(entry["name"]))
        for entry in (limits if isinstance(limits, list) else [])
        if isinstance(entry, Mapping)
        and str(entry.get("name")).startswith("chars_per_")
        and isinstance(remaining := entry.get("remaining"), int)
    ]
    if not left:
        return "", True
    least, name = min(left)
    when = {"chars_per_minute": "for now", "chars_per_day": "today"}.get(name, "this month")
    if chars > least:
        return f"Costs up to {chars:,} characters, and only {least:,} are left {when}.", False
    return f"Costs up to {chars:,} of the {least:,} characters left {when}.", True


def _bar(entry: object) -> LimitBar | None:
    if not isinstance(entry, Mapping):
        return None
    limit, remaining = entry.get("limit"), entry.get("remaining")
    if not isinstance(limit, int) or not isinstance(remaining, int) or limit < 1:
        return None
    name = str(entry.get("name"))
    left = min(1.0, max(0.0, remaining / limit))
    return LimitBar(_LIMIT_NAMES.get(name, name), left, f"{remaining:,} of {limit:,} left")
