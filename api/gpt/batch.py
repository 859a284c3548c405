"""The rows that generate: read in portions, then decoded together.

A row's text is read in portions cut at fixed places, so what the cache holds for it does not depend
on when the others came. Running rows wait for no more than a portion or two in a step, and short
texts not for long ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, chain

from api.gpt.decoder import PORTION, READ_ALONE, READ_BESIDE, Decoder, Portion
from api.gpt.row import Row


@dataclass(frozen=True, slots=True)
class Progress:
    """What came of a call of `Batch.step`."""

    chars: int
    steps: int  # tokens drawn for each row


class Batch:
    """At most as many rows as the decoder has slots; the caller sees to that."""

    def __init__(self, decoder: Decoder, slots: int) -> None:
        self._decoder = decoder
        self._free = list(range(slots))
        self._running: dict[int, Row] = {}  # by slot; whose text has been read
        self._moved: deque[Row] = deque()  # to be read again: before any new one
        self._joining: deque[Row] = deque()  # new; the first may be half read

    def add(self, row: Row) -> None:
        row.slot = self._free.pop()
        self._joining.append(row)

    def evict(self, row: Row) -> None:
        """Take a row's slot; added again, it is read again and goes on where it was."""
        self._remove(row)
        row.read = 0

    def remove_ended(self, now: float) -> list[Row]:
        """Remove and return the rows that have ended or whose deadline has come."""
        rows = chain(self._running.values(), self._moved, self._joining)
        ended = [row for row in rows if row.end_if_due(now)]
        for row in ended:
            self._remove(row)
        return ended

    def step(self, steps: int) -> Progress:
        """Read a portion and draw up to `steps` tokens for each row.

        New texts that can be read at once are, in a pass of their own: it is a fraction of a full
        one, and their first characters do not wait for that. Rows that end are left to
        `remove_ended`, which the caller calls between steps.
        """
        chars = 0
        if self._running and (portions := self._portions(self._short())):
            chars += self._take(self._decoder.run(portions, {}, 1))
        waiting = sorted((*self._moved, *self._joining), key=self._turn)
        portions = self._portions(waiting, READ_BESIDE if self._running else READ_ALONE)
        going_on = ((slot, row) for slot, row in self._running.items() if not row.generation.ended)
        left = {slot: row.room() for slot, row in going_on}
        drawn = self._decoder.run(portions, left, steps) if left or portions else {}
        chars += self._take(drawn)
        return Progress(chars, max(map(len, drawn.values()), default=0))

    def _take(self, drawn: Mapping[int, list[int]]) -> int:
        """Give each row its tokens; return how many characters they made."""
        chars = 0
        for slot, tokens in drawn.items():
            row = self._running.get(slot) or self._begin(slot)
            chars += row.take(tokens)
            if not row.generation.ended and row.move_window():
                del self._running[slot]
                self._decoder.release(slot)
                self._moved.append(row)
        return chars

    def _short(self) -> list[Row]:
        """Return new rows of which not much is unread: all together no more than a portion."""
        begun = any(row.read for row in (*self._moved, *self._joining))
        if begun and self._decoder.reads_one_at_a_time:
            return []
        ordered = sorted(self._joining, key=_unread)
        whole = accumulate(map(_unread, ordered))
        return [row for row, tokens in zip(ordered, whole, strict=True) if tokens <= PORTION]

    def _turn(self, row: Row) -> tuple[bool, int]:
        """Order what waits to be read: the shortest first, after what was begun if it must be."""
        begun = row.read > 0 and self._decoder.reads_one_at_a_time
        return not begun, _unread(row)

    def _portions(self, rows: Iterable[Row], most: int = PORTION) -> list[Portion]:
        """Take portions of the rows' texts, one after the other, until there is enough."""
        portions: list[Portion] = []
        taken = 0
        for row in rows:
            while taken < most and row.read <= row.position:
                tokens, start = row.unread(PORTION), row.read
                row.read += len(tokens)
                taken += len(tokens)
                draw = row.draw() if row.read > row.position else None
                portions.append(Portion(row.slot, tokens, start, draw))
        return portions

    def _begin(self, slot: int) -> Row:
        """Make a row whose text has just been read one of those that run."""
        for waiting in (self._moved, self._joining):
            for row in waiting:
                if row.slot == slot:
                    waiting.remove(row)
                    self._running[slot] = row
                    return row
        raise LookupError(f"slot {slot} is nobody's")

    def _remove(self, row: Row) -> None:
        if self._running.pop(row.slot, None) is None:
            (self._moved if row in self._moved else self._joining).remove(row)
        self._decoder.release(row.slot)
        self._free.append(row.slot)


def _unread(row: Row) -> int:
    return row.position + 1 - row.read
