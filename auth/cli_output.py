"""How `python -m auth` answers: one JSON document, or tables that a person can read. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

SHOWN_ONCE = {
    "key": "The key is shown only this once: keep it where secrets are kept.",
    "password": "The password is shown only this once: pass it on in private.",
}

WITHIN = "web_app_sees_within_seconds"

# What a list shows, and in which order; the whole record is in --json.
_COLUMNS = {
    "tenants": ("tenant", "plan", "state", "created_at"),
    "keys": (
        *("key_id", "tenant", "name", "plan", "scopes", "state", "expires_at", "expires_in_days"),
        *("last_used_at", "last_used_from", "rotation"),
    ),
    "users": ("user", "tenant", "roles", "state", "key_id"),
    "audit": ("number", "at", "actor", "address", "action", "subject", "note"),
    "secrets": ("secret", "missing", "beyond"),
    "usage": ("day", "tenant", "key_id", "name", "chars", "requests", "refused"),
    "failures": ("address", "count", "reasons"),
    "pepper": ("pepper", "state", "secrets", "ends_at"),
}


def as_json(answer: Any) -> str:
    """Return the answer as one JSON document."""
    return json.dumps(answer, indent=2, ensure_ascii=False)


def as_text(room: str, answer: Any) -> str:
    """Return the answer for a person."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, list):
        return table(_COLUMNS[room], answer)
    nested = {name: rows for name, rows in answer.items() if _is_nested(name, rows)}
    lines = [
        _field_lines({n: v for n, v in answer.items() if n not in nested and n not in _APART}),
    ]
    lines += [table(_COLUMNS[of], nested[name]) for name, of in _NESTED.items() if name in nested]
    lines += [text for name, text in SHOWN_ONCE.items() if name in answer]
    if WITHIN in answer:
        lines.append(f"The web app sees this within {answer[WITHIN]} s.")
    return "\n".join(lines)


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows under a head, each column as wide as its widest cell."""
    cells = [[name.removesuffix("_at").upper().replace("_", " ") for name in columns]]
    cells += [[_cell(name, row.get(name)) for name in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    return "\n".join(lines if rows else [*lines, "(none)"])


_NESTED = {"keys": "keys", "peppers": "pepper", "addresses": "failures"}
_APART = ("warnings", WITHIN)


def _is_nested(name: str, value: Any) -> bool:
    """Say whether a field is a table of its own; a number of the same name is a field."""
    return name in _NESTED and isinstance(value, list)


def _field_lines(answer: Mapping[str, Any]) -> str:
    width = max(map(len, answer), default=0)
    return "\n".join(f"{name:<{width}}  {_cell(name, value)}" for name, value in answer.items())


def _cell(name: str, value: Any) -> str:
    if value is None or value in ([], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_at") or name in ("at", "deadline", "since"):
        return _moment(value)
    if name == "rotation":
        return f"old secret ends {_moment(value['old_secret_ends_at'])}"
    if isinstance(value, list):
        return ",".join(str(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {one}" for key, one in value.items())
    return str(value)


def _moment(unix: int) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
