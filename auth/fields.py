"""Strict reading of stored JSON: every field present, of its type, and none unknown. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")  # of tenants and users: also part of secret names


class Fields:
    """One JSON object being read; raises ValueError naming the field."""

    def __init__(self, where: str, value: object, allowed: Sequence[str]) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object")
        unknown = sorted(set(value) - set(allowed))
        if unknown:
            raise ValueError(f"{where}.{unknown[0]} is not known")
        self._where = where
        self._value: Mapping[str, Any] = value

    def text(self, name: str, pattern: re.Pattern[str] | None = None) -> str:
        value = self._value.get(name)
        if not isinstance(value, str) or (pattern is not None and not pattern.fullmatch(value)):
            raise self._wrong(name)
        return value

    def optional_text(self, name: str, pattern: re.Pattern[str] | None = None) -> str | None:
        return None if self._value.get(name) is None else self.text(name, pattern)

    def integer(self, name: str) -> int:
        value = self._value.get(name)
        if type(value) is not int or value < 0:
            raise self._wrong(name)
        return value

    def optional_integer(self, name: str) -> int | None:
        return None if self._value.get(name) is None else self.integer(name)

    def flag(self, name: str) -> bool:
        value = self._value.get(name, False)
        if type(value) is not bool:
            raise self._wrong(name)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._value.get(name, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self._wrong(name)
        return tuple(value)

    def items(self, name: str) -> list[Any]:
        value = self._value.get(name)
        if not isinstance(value, list):
            raise self._wrong(name)
        return value

    def table(self, name: str) -> dict[str, Any]:
        value = self._value.get(name)
        if not isinstance(value, dict):
            raise self._wrong(name)
        return value

    def optional_table(self, name: str) -> dict[str, Any]:
        return {} if self._value.get(name) is None else self.table(name)

    def value(self, name: str) -> Any:
        return self._value.get(name)

    def _wrong(self, name: str) -> ValueError:
        return ValueError(f"{self._where}.{name} is missing or wrong")
