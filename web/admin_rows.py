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


def expiring(key: Mapping[str, Any]) -> bool:
    """Tell whether an active key expires soon, as the API warns of it."""
    return key.get("state") == "active" and key.get("expires_in_days") is not None


def key_row(key: Mapping[str, Any], used: Mapping[str, int] | None = None) -> Row:
    """Return a key's row; `used` are the characters of the last days by key id, if known."""
    scopes = key.get("scopes")
    chars = None if used is None else used.get(str(key.get("key_id")), 0)
    return {
        "Name": _text(key.get("name")),
        "Tenant": _text(key.get("tenant")),
        "Plan": _text(key.get("plan")),
        "State": "rotating" if key.get("rotation") else _text(key.get("state")),
        "Characters (30 days)": "" if chars is None else f"{chars:,}",
        "Last used": day(key.get("last_used_at")) or "never",
        "Expires": day(key.get("expires_at")) or "never",
        "Key": _text(key.get("masked") or key.get("key_id")),
        "May": ", ".join(map(str, scopes)) if isinstance(scopes, list) else "",
    }


def used_chars(tenants: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many characters each key used, from what the API says of all tenants."""
    found: dict[str, int] = {}
    for tenant in tenants:
        keys = tenant.get("keys")
        for key_id, used in keys.items() if isinstance(keys, Mapping) else ():
            chars = used.get("chars") if isinstance(used, Mapping) else None
            if isinstance(chars, int):
                found[str(key_id)] = chars
    return found


def audit_row(
    record: Mapping[str, Any], keys: Mapping[str, Mapping[str, Any]] | None = None
) -> Row:
    """Return a record's row; `keys` by their id tell the names of those that it speaks of."""
    keys = {} if keys is None else keys
    at, action = record.get("at"), _text(record.get("action"))
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at)) if isinstance(at, int) else ""
    actor, subject = _text(record.get("actor")), _text(record.get("subject"))
    kind, _, who = actor.partition(":")
    before, after = _object(record.get("before")), _object(record.get("after"))
    told = {**before, **after}
    of_key = action.startswith("key.")
    names = told if of_key and told.get("name") else keys.get(subject, {}) if of_key else {}
    tenant = subject if action.startswith("tenant.") else told.get("tenant") or names.get("tenant")
    return {
        "No.": _text(record.get("number")),
        "When (UTC)": moment,
        "Who": _text(keys[who].get("name")) if kind == "key" and who in keys else actor,
        "What": action,
        "On": _text(names.get("name")) or subject,
        "Tenant": _text(tenant),
        "Change": _change(before, after),
        "Note": _text(record.get("note")),
        "From": _text(record.get("address")),
        "Id": subject if of_key else "",
    }


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return which plain values are others now; nothing for what is new or gone as a whole."""
    if not before or not after:
        return ""
    plain = str | int | bool | None
    changed = [
        f"{name}: {before.get(name)} → {value}"
        for name, value in after.items()
        if value != before.get(name)
        and all(isinstance(v, plain) for v in (value, before.get(name)))
    ]
    return ", ".join(changed)[:200]


def matching(rows: Iterable[Row], words: str) -> list[Row]:
    """Return the rows that hold every word somewhere, whatever the case."""
    wanted = words.casefold().split()

    def matches(row: Row) -> bool:
        text = " ".join(map(str, row.values())).casefold()
        return all(word in text for word in wanted)

    return [row for row in rows if matches(row)]


def _text(value: object) -> str:
    return "" if value is None else str(value)
