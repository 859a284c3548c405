"""Whose text is read next: turns by weight among tenants, first come first served in each.

A turn is worth its weight's number of portions, and what a portion takes beyond that is taken from
the next one, so each row is read to its end after a number of portions that has nothing to do with
what joins meanwhile: those that stood before it in its tenant's line, and for each turn of its
tenant one of every other.

Besides, a tenant that has been reading nothing may read a text ahead of all turns: it has saved up
half a portion for each step, and a whole context at most. So beside a flood its first character
comes almost as soon as alone; and who reads all the time saves nothing. Pure bookkeeping, of the
engine's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from api.gpt.decoder import PORTION
from api.gpt.row import Row

SAVED_IN_STEP = PORTION // 2  # tokens, of a tenant that has nothing to be read


@dataclass(slots=True)
class _Line:
    """A tenant's rows to be read, the oldest first."""

    saved: int  # tokens that it may read ahead of its turns
    rows: deque[Row] = field(default_factory=deque)
    credit: int = 0  # tokens that its turn is still worth


class Reading:
    """The rows that have a slot and a text that is not, or no longer, in the cache."""

    def __init__(self, *, context: int, one_at_a_time: bool) -> None:
        self._context = context  # tokens: the longest text that is read
        self._one_at_a_time = one_at_a_time  # what was begun is read before anything else
        self._lines: dict[str, _Line] = {}  # in the order of turns; none is empty
        self._steps = 0
        self._left: dict[
            str, tuple[int, int]
        ] = {}  # when, what was saved; the first to leave first

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(line.rows for line in self._lines.values())

    def add(self, row: Row) -> None:
        if row.tenant not in self._lines:
            self._lines[row.tenant] = _Line(self._saved_up(row.tenant))
        self._lines[row.tenant].rows.append(row)

    def remove(self, row: Row) -> None:
        line = self._lines[row.tenant]
        line.rows.remove(row)
        if not line.rows:
            del self._lines[row.tenant]  # what its turn was worth or it owes is not kept
            self._left[row.tenant] = self._steps, line.saved

    def passed(self, steps: int) -> None:
        """Note that steps have been taken."""
        self._steps += steps
        full = self._steps - self._context // SAVED_IN_STEP
        while self._left and (first := next(iter(self._left.items())))[1][0] < full:
            del self._left[first[0]]  # as one that was never here

    def charge(self, row: Row, tokens: int) -> None:
        """Note that tokens of the row that is due are being read."""
        line = self._lines[row.tenant]
        line.credit -= tokens
        line.saved = max(0, line.saved - tokens)

    def charge_ahead(self, row: Row, tokens: int) -> None:
        """Note that tokens of a row are being read ahead of its turn."""
        line = self._lines[row.tenant]
        line.saved = max(0, line.saved - tokens)

    def next_ahead(self) -> Row | None:
        """Return a row that may be read ahead of the turns, for what its tenant has saved up."""
        if self._one_at_a_time and (begun := self._begun()):
            return begun if self._lines[begun.tenant].saved else None
        return next((line.rows[0] for line in self._lines.values() if line.saved), None)

    def next(self) -> Row | None:
        """Return the row whose portion is due."""
        if self._one_at_a_time and (begun := self._begun()):
            return begun
        while self._lines:
            tenant, line = next(iter(self._lines.items()))
            if line.credit > 0:
                return line.rows[0]
            line.credit += PORTION * max(1, line.rows[0].weight)
            self._lines[tenant] = self._lines.pop(tenant)  # its next turn
        return None

    def _begun(self) -> Row | None:
        return next((row for row in self if row.read), None)

    def _saved_up(self, tenant: str) -> int:
        if tenant not in self._left:
            return self._context
        then, saved = self._left.pop(tenant)
        return min(self._context, saved + SAVED_IN_STEP * (self._steps - then))
