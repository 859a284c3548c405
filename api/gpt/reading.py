"""Whose text is read next: turns by weight among tenants, first come first served in each.

A turn is worth its weight's number of portions, and what a portion takes beyond that is taken from
the next one, so each row is read to its end after a number of portions that has nothing to do with
what joins meanwhile: those that stood before it in its tenant's line, and for each turn of its
tenant one of every other. Pure bookkeeping, of the engine's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from api.gpt.decoder import PORTION
from api.gpt.row import Row


@dataclass(slots=True)
class _Line:
    """A tenant's rows to be read, the oldest first, and how many tokens its turn is still worth."""

    rows: deque[Row] = field(default_factory=deque)
    credit: int = 0


class Reading:
    """The rows that have a slot and a text that is not, or no longer, in the cache."""

    def __init__(self, *, one_at_a_time: bool) -> None:
        self._one_at_a_time = one_at_a_time  # what was begun is read before anything else
        self._lines: dict[str, _Line] = {}  # in the order of turns; none is empty

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(line.rows for line in self._lines.values())

    def add(self, row: Row) -> None:
        self._lines.setdefault(row.tenant, _Line()).rows.append(row)

    def remove(self, row: Row) -> None:
        line = self._lines[row.tenant]
        line.rows.remove(row)
        if not line.rows:
            del self._lines[row.tenant]  # what it saved up or owes is not kept

    def charge(self, row: Row, tokens: int) -> None:
        """Note that tokens of the row that is due are being read."""
        self._lines[row.tenant].credit -= tokens

    def next(self) -> Row | None:
        """Return the row whose portion is due."""
        if self._one_at_a_time and (begun := next((row for row in self if row.read), None)):
            return begun
        while self._lines:
            tenant, line = next(iter(self._lines.items()))
            if line.credit > 0:
                return line.rows[0]
            line.credit += PORTION * max(1, line.rows[0].weight)
            self._lines[tenant] = self._lines.pop(tenant)  # its next turn
        return None
