"""The rows that generate: read in portions, then decoded together.

A row's text is read in portions cut at fixed places, so what the cache holds for it does not depend
on when the others came. Running rows never wait for more than one portion, or the end of one and
one more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import chain

from api.gpt.decoder import PORTION, Decoder, Portion
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

        Rows that end in it are left to `remove_ended`, which the caller calls between steps.
        """
        portions = self._portions()
        left = {slot: row.room() for slot, row in self._running.items()}
        chars = 0
        drawn = self._decoder.run(portions, left, steps)
        for slot, tokens in drawn.items():
            row = self._running.get(slot) or self._begin(slot)
            chars += row.take(tokens)
            if not row.generation.ended and row.move_window():
                del self._running[slot]
                self._decoder.release(slot)
                self._moved.append(row)
        return Progress(chars, max(map(len, drawn.values()), default=0))

    def _portions(self) -> list[Portion]:
        """Take the next portion of what is to be read, text by text, until there is enough."""
        portions: list[Portion] = []
        taken = 0
        half_read = [row for row in self._joining if row.read][:1]  # the others' turn comes after
        for row in chain(half_read, self._moved, self._joining):
            while taken < PORTION and row.read <= row.position:
                tokens, start = row.unread(PORTION), row.read
                row.read += len(tokens)
                taken += len(tokens)
                draw = row.draw() if row.read > row.position else None
                portions.append(Portion(row.slot, tokens, start, draw))
            if taken >= PORTION:
                break
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
