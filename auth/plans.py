"""Plans: how much a key may use. Read from one TOML file; a value that is wrong stops the start.

There is no "unlimited": every limit of every plan is a positive integer. A key may have limits of
its own in the place of some of its plan's; a tenant may have caps on what all its keys use
together, and only there can a limit be absent.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
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


# A key's own limits in the place of its plan's, by name; sorted, so that equal ones are equal.
Overrides = tuple[tuple[str, int], ...]

LIMITS = tuple(field.name for field in fields(Plan) if field.name != "name")

# What the arithmetic of Redis's scripts holds exactly: a rate is counted in 1/60 000 of a unit.
MAX_LIMIT = 10**12
MAX_RATE = 10**10


@dataclass(frozen=True, slots=True)
class Caps:
    """What all keys of a tenant may use together; None: no such cap."""

    requests_per_minute: int | None = None
    chars_per_minute: int | None = None
    chars_per_day: int | None = None
    chars_per_month: int | None = None
    concurrency: int | None = None

    @property
    def given(self) -> dict[str, int]:
        """Return the caps that there are, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


CAPS = tuple(field.name for field in fields(Caps))


def most_of(name: str) -> int:
    """Return the largest value that a limit may have."""
    return MAX_RATE if name.endswith("_per_minute") else MAX_LIMIT


def checked_limits(where: str, values: Mapping[str, object], known: tuple[str, ...]) -> Overrides:
    """Return limits by name, sorted. Raise ValueError naming the limit that is wrong."""
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{where}.{name} is not a limit: choose from {', '.join(known)}")
        most = most_of(name)
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"{where}.{name} must be a whole number from 1 to {most}")
    return tuple(sorted((name, value) for name, value in values.items() if type(value) is int))


def with_overrides(plan: Plan, overrides: Overrides) -> Plan:
    """Return the plan with a key's own limits in it."""
    return replace(plan, **dict(overrides)) if overrides else plan  # type: ignore[arg-type] # every limit is an int


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
    for key in LIMITS:
        if key not in table:
            raise ValueError(f"{path}: {name}.{key} is missing")
        value = table[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{path}: {name}.{key} must be a positive integer, not {value!r}")
        if value > most_of(key):
            raise ValueError(f"{path}: {name}.{key} must be at most {most_of(key)}")
    unknown = sorted(set(table) - set(LIMITS))
    if unknown:
        raise ValueError(f"{path}: {name}.{unknown[0]} is not a setting of a plan")
    return Plan(name=name, **table)
