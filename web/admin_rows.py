"""What /v1/admin/* lists, as rows that an admin reads. Pure; what is missing shows as nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from web.key_facts import day

Row = dict[str, str]


def entries(document: Any, name: str) -> list[Mapping[str, Any]]:
    """Return the objects of an answer's list."""
    listed = document.get(name) if isinstance(document, Mapping) else None
    found = listed if isinstance(listed, list) else []
    return [entry for entry in found if isinstance(entry, Mapping)]


def tenant_row(tenant: Mapping[str, Any]) -> Row:
    return {
        "Tenant": _text(tenant.get("tenant")),
        "Plan": _text(tenant.get("plan")),
        "State": _text(tenant.get("state")),
        "Created": day(tenant.get("created_at")) or "",
    }


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
    return [
        row for row in rows if all(word in " ".join(row.values()).casefold() for word in wanted)
    ]


def _text(value: object) -> str:
    return "" if value is None else str(value)
