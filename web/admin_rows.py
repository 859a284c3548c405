"""What /v1/admin/* lists, as rows that an admin reads. Pure; what is missing shows as nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from web.key_facts import day

Row = dict[str, Any]


def entries(document: Any, name: str) -> list[Mapping[str, Any]]:
    """Return the objects of an answer's list."""
    listed = document.get(name) if isinstance(document, Mapping) else None
    found = listed if isinstance(listed, list) else []
    return [entry for entry in found if isinstance(entry, Mapping)]


def tenant_row(tenant: Mapping[str, Any], chars: Any = None) -> Row:
    """Return a tenant's row; `chars` are its characters on each of the last days."""
    days = [one for one in chars if isinstance(one, int)] if isinstance(chars, list) else []
    return {
        "Tenant": _text(tenant.get("tenant")),
        "Plan": _text(tenant.get("plan")),
        "State": _text(tenant.get("state")),
        "30 days": days,
        "Characters": f"{sum(days):,}",
        "Created": day(tenant.get("created_at")) or "",
    }


def user_row(user: Mapping[str, Any]) -> Row:
    roles = user.get("roles")
    return {
        "User": _text(user.get("user")),
        "Tenant": _text(user.get("tenant")),
        "Role": "admin" if isinstance(roles, list) and "admin" in roles else "user",
        "State": _text(user.get("state")),
        "Key": _text(user.get("key_id")),
        "Password": "to be changed" if user.get("must_change_password") else "",
        "Changed": day(user.get("password_changed_at")) or "",
    }


def refusal_rows(refused: Any) -> list[Row]:
    """Return how often each reason was given, the most frequent first."""
    counts = refused if isinstance(refused, Mapping) else {}
    found = [(count, str(code)) for code, count in counts.items() if isinstance(count, int)]
    return [{"Refused": code, "Times": count} for count, code in sorted(found, reverse=True)]


def unused(key: Mapping[str, Any], days: int, now: float) -> bool:
    """Tell whether an active key was not used for so long."""
    last = key.get("last_used_at") or key.get("created_at")
    return key.get("state") == "active" and isinstance(last, int) and last <= now - days * 86_400


def expiring(key: Mapping[str, Any]) -> bool:
    """Tell whether an active key expires soon, as the API warns of it."""
    return key.get("state") == "active" and key.get("expires_in_days") is not None


def key_row(key: Mapping[str, Any]) -> Row:
    scopes = key.get("scopes")
    return {
        "Name": _text(key.get("name")),
        "Tenant": _text(key.get("tenant")),
        "Key": _text(key.get("masked") or key.get("key_id")),
        "Plan": _text(key.get("plan")),
        "May": ", ".join(map(str, scopes)) if isinstance(scopes, list) else "",
        "State": "rotating" if key.get("rotation") else _text(key.get("state")),
        "Last used": day(key.get("last_used_at")) or "never",
        "Expires": day(key.get("expires_at")) or "never",
    }


def audit_row(record: Mapping[str, Any]) -> Row:
    at = record.get("at")
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at)) if isinstance(at, int) else ""
    return {
        "No.": _text(record.get("number")),
        "When (UTC)": moment,
        "Who": _text(record.get("actor")),
        "From": _text(record.get("address")),
        "What": _text(record.get("action")),
        "On": _text(record.get("subject")),
        "Note": _text(record.get("note")),
    }


def matching(rows: Iterable[Row], words: str) -> list[Row]:
    """Return the rows that hold every word somewhere, whatever the case."""
    wanted = words.casefold().split()

    def matches(row: Row) -> bool:
        text = " ".join(map(str, row.values())).casefold()
        return all(word in text for word in wanted)

    return [row for row in rows if matches(row)]


def _text(value: object) -> str:
    return "" if value is None else str(value)
