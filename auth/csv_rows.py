"""Lists of keys as CSV: what to issue, what to revoke, and what became of it. Pure.

The first line names the columns; a column or a value that cannot be is refused by row and name
before anything is done.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from auth.admin_bulk import Revocation
from auth.admin_keys import KeyOrder
from auth.errors import AdminRefusedError

ISSUE_COLUMNS = ("tenant", "name", "scopes", "plan", "expires", "cidrs")
REVOKE_COLUMNS = ("key_id", "reason")
DEFAULT_SCOPES = ("generate", "usage:read", "key:rotate")

_ANSWER_COLUMNS = ("key_id", "tenant", "name", "key", "state", "error")


def orders(text: str, expiry: Callable[[str], int]) -> list[KeyOrder]:
    """Return the keys to issue; lists within a column are separated by blanks or commas."""
    found = []
    for number, row in _rows(text, ISSUE_COLUMNS, needed=("tenant", "name")):
        expires = row.get("expires") or ""
        try:
            expires_at = expiry(expires) if expires else None
        except argparse.ArgumentTypeError as exc:
            raise AdminRefusedError(f"row {number}: expires: {exc}") from exc
        found.append(
            KeyOrder(
                tenant=row["tenant"],
                name=row["name"],
                scopes=_parts(row.get("scopes")) or DEFAULT_SCOPES,
                plan=row.get("plan") or None,
                expires_at=expires_at,
                allowed_cidrs=_parts(row.get("cidrs")),
            )
        )
    return found


def revocations(text: str) -> list[Revocation]:
    """Return the keys to revoke."""
    rows = _rows(text, REVOKE_COLUMNS, needed=("key_id",))
    return [Revocation(row["key_id"], row.get("reason") or None) for _, row in rows]


def as_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return what became of each row, the whole key too where one was issued."""
    listed = list(rows)
    columns = [one for one in _ANSWER_COLUMNS if any(one in row for row in listed)]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "name": as_name(str(row.get("name", "")))} for row in listed)
    return out.getvalue().rstrip("\n")


def as_name(name: str) -> str:
    """Return a name that a spreadsheet takes for text, never for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


def _parts(cell: str | None) -> tuple[str, ...]:
    return tuple((cell or "").replace(",", " ").split())


def _rows(
    text: str, columns: Sequence[str], needed: Sequence[str]
) -> list[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    try:
        return _checked_rows(reader, columns, needed)
    except csv.Error as exc:
        raise AdminRefusedError(
            f"line {reader.line_num + 1} is not CSV as it should be: {exc}"
        ) from exc


def _checked_rows(
    reader: csv.DictReader[str], columns: Sequence[str], needed: Sequence[str]
) -> list[tuple[int, dict[str, str]]]:
    given = [one.strip() for one in reader.fieldnames or ()]
    reader.fieldnames = given
    unknown = [one for one in given if one not in columns]
    if unknown or not set(needed) <= set(given):
        raise AdminRefusedError(
            f"the first line must name columns of {', '.join(columns)}, "
            f"{' and '.join(needed)} among them"
        )
    rows = []
    for number, row in enumerate(reader, start=1):
        if None in row or None in row.values():
            raise AdminRefusedError(f"row {number} has not as many fields as the first line")
        cleaned = {name: value.strip() for name, value in row.items()}
        missing = [name for name in needed if not cleaned[name]]
        if missing:
            raise AdminRefusedError(f"row {number}: {missing[0]} is empty")
        rows.append((number, cleaned))
    return rows
