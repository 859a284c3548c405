"""Plans: how much a key may use. Read from one TOML file; a value that is wrong stops the start.

There is no "unlimited": every limit of every plan is a positive integer.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType

PLANS_FILE = Path(__file__).with_name("plans.toml")


@dataclass(frozen=True, slots=True)
class Plan:
    """The limits of one key; characters are code points."""

    name: str
    requests_per_minute: int
    chars_per_minute: int
    chars_per_day: int  # UTC calendar day
    chars_per_month: int  # UTC calendar month
    concurrency: int  # requests at a time
    max_num_chars: int  # of one request
    weight: int  # share of the generator among tenants


def load_plans(path: Path = PLANS_FILE) -> Mapping[str, Plan]:
    """Return the plans by name. Raise ValueError naming the file, the plan and the value."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ValueError(f"{path}: {exc}") from exc
    if not document:
        raise ValueError(f"{path}: no plan is defined")
    return MappingProxyType({name: _plan(path, name, table) for name, table in document.items()})


def _plan(path: Path, name: str, table: object) -> Plan:
    if not isinstance(table, dict):
        raise ValueError(f"{path}: {name} must be a table")
    expected = [field.name for field in fields(Plan) if field.name != "name"]
    for key in expected:
        value = table.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{path}: {name}.{key} must be a positive integer, not {value!r}")
    unknown = sorted(set(table) - set(expected))
    if unknown:
        raise ValueError(f"{path}: {name}.{unknown[0]} is not a setting of a plan")
    return Plan(name=name, **table)
