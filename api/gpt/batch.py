"""The rows that generate: read in portions, then decoded together.

A row's text is read in portions cut at fixed places, so what the cache holds for it does not depend
on when the others came. Running rows wait for no more than a portion or two between two tokens, or
a few for a tenant that had none; and a row that has a slot is read within a number of steps that no
flood of others changes (`reading.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, chain

from api.gpt.decoder import PORTION, READ_AHEAD, READ_ALONE, READ_BESIDE, Decoder, Portion
from api.gpt.reading import Reading
from api.gpt.row import Row

FEW = PORTION // 4  # rows that make a portion's pass hardly longer, and a pass of their own dear


@dataclass(frozen=True, slots=True)
class Progress:
    """What came of a call of `Batch.step`."""

    chars: int
    steps: int  # tokens drawn for each row; none where only a portion was read
    read: int  # tokens of texts
    work: Mapping[str, int]  # tokens that were read and drawn for each tenant


class Batch:
    """At most as many rows as the decoder has slots; the caller sees to that."""

    def __init__(self, decoder: Decoder, slots: int, *, context: int) -> None:
        self._decoder = decoder
        self._free = list(range(slots))
        self._running: dict[int, Row] = {}  # by slot; whose text has been read
        self._work: Counter[str] = Counter()  # of the step under way, by tenant
        self._drew = False  # since the last portion that was due
        self._ahead = 0  # tokens that were read ahead since the rows drew
        self._reading = Reading(context=context, one_at_a_time=decoder.reads_one_at_a_time)

    def add(self, row: Row) -> None:
        row.slot = self._free.pop()
        self._reading.add(row)

    def evict(self, row: Row) -> None:
        """Take a row's slot; added again, it is read again and goes on where it was."""
        self._remove(row)
        row.read = 0

    def remove_ended(self, now: float) -> list[Row]:
        """Remove and return the rows that have ended or whose deadline has come."""
        rows = chain(self._running.values(), self._reading)
        ended = [row for row in rows if row.end_if_due(now)]
        for row in ended:
            self._remove(row)
        return ended

    def step(self, steps: int) -> Progress:
        """Read the portion that is due and draw up to `steps` tokens for each row; where more than
        a few rows run the two take turns, so that who comes waits for no more than one of them.

        What is read ahead of the turns is, in passes of its own: each is a fraction of a full one,
        and those first characters do not wait for that. It takes nothing from the portion that is
        due to whoever's turn it is. Rows that end are left to `remove_ended`, which the caller
        calls between steps.
        """
        self._work = Counter()
        chars = read = 0
        for take in (self._short, self._saved_up):
            if portions := take():
                chars += self._take(self._decoder.run(portions, {}, 1))
                read += _tokens(portions)
        waiting = any(True for _ in self._reading)
        apart = len(self._running) > FEW
        reads = waiting and (self._drew or not apart)
        draws = not (reads and apart)
        left = self._left() if draws else {}
        portions = self._due(READ_BESIDE if self._running else READ_ALONE) if reads else []
        drawn = (
            self._decoder.run(portions, left, 1 if waiting else steps) if left or portions else {}
        )
        chars, read = chars + self._take(drawn), read + _tokens(portions)
        taken = 0
        if draws:
            self._ahead, taken = 0, max(map(len, drawn.values()), default=0)
            self._reading.passed(max(1, taken))
        self._drew = draws
        return Progress(chars, taken, read, self._work)

    def _left(self) -> dict[int, int]:
        """Return how many tokens may be drawn for each slot that runs."""
        left = {}
        for slot, row in self._running.items():
            if row.generation.ended:
                self._decoder.release(slot)  # there may be no room for another token of it
            else:
                left[slot] = row.room()
        return left

    def _take(self, drawn: Mapping[int, list[int]]) -> int:
        """Give each row its tokens; return how many characters they made."""
        chars = 0
        for slot, tokens in drawn.items():
            row = self._running[slot]
            self._work[row.tenant] += len(tokens)
            chars += row.take(tokens)
            if not row.generation.ended and row.move_window():
                del self._running[slot]
                self._decoder.release(slot)
                self._reading.add(row)
        return chars

    def _short(self) -> list[Portion]:
        """Take new texts of which not much is unread: all together no more than a portion.

        None where nothing is under way that they would wait for.
        """
        begun = any(row.read for row in self._reading)
        if (begun and self._decoder.reads_one_at_a_time) or not (begun or self._running):
            return []
        ordered = sorted((row for row in self._reading if row.is_new), key=_unread)
        whole = accumulate(map(_unread, ordered))
        short = [row for row, tokens in zip(ordered, whole, strict=True) if tokens <= PORTION]
        return [self._portion(row) for row in short]

    def _saved_up(self) -> list[Portion]:
        """Take portions of texts whose tenants have saved up reading. None where nothing runs: then
        as many are read in turn.
        """
        portions: list[Portion] = []
        while self._running and self._ahead < READ_AHEAD and (row := self._reading.next_ahead()):
            self._reading.charge_ahead(row, min(PORTION, _unread(row)))
            portions.append(self._portion(row))
            self._ahead += len(portions[-1].tokens)
        return portions

    def _due(self, most: int) -> list[Portion]:
        """Take portions of the rows whose turn it is until there is enough."""
        portions: list[Portion] = []
        taken = 0
        while taken < most and (row := self._reading.next()):
            self._reading.charge(row, min(PORTION, _unread(row)))
            portions.append(self._portion(row))
            taken += len(portions[-1].tokens)
        return portions

    def _portion(self, row: Row) -> Portion:
        """Take the next portion of a row's text; with the last one it is among those that run."""
        tokens, start = row.unread(PORTION), row.read
        row.read += len(tokens)
        self._work[row.tenant] += len(tokens)
        if row.read <= row.position:
            return Portion(row.slot, tokens, start, None)
        self._reading.remove(row)
        self._running[row.slot] = row
        return Portion(row.slot, tokens, start, row.draw())

    def _remove(self, row: Row) -> None:
        if self._running.pop(row.slot, None) is None:
            self._reading.remove(row)
        self._decoder.release(row.slot)
        self._free.append(row.slot)


def _tokens(portions: Iterable[Portion]) -> int:
    return sum(len(portion.tokens) for portion in portions)


def _unread(row: Row) -> int:
    return row.position + 1 - row.read
