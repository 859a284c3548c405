"""The rows that generate: read in portions, then decoded together, a token each step.

A row's text is read alone and in portions cut at fixed places, so what the cache holds for it does
not depend on when the others came. Running rows never wait for more than one portion.
"""

from __future__ import annotations

from collections import deque

from torch import Tensor

from api.gpt.decoder import Decoder
from api.gpt.row import Row
from api.gpt.sampling import sample

PORTION = 64  # tokens read between two steps of the running rows


class Batch:
    """At most as many rows as the decoder has slots; the caller sees to that."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._decoding: list[Row] = []  # in the order of the cache's rows
        self._staged: Row | None = None  # being read
        self._moved: deque[Row] = deque()  # running, to be read again: before any new one
        self._joining: deque[Row] = deque()  # new

    def add(self, row: Row) -> None:
        self._joining.append(row)

    def remove_ended(self, now: float) -> list[Row]:
        """Remove and return the rows that have ended or whose deadline has come."""
        ended = [row for row in self._rows() if row.end_if_due(now)]
        for row in ended:
            if row is self._staged:
                self._staged = None
            elif row in self._decoding:
                self._stop_decoding(row)
            else:
                (self._moved if row in self._moved else self._joining).remove(row)
        return ended

    def step(self) -> int:
        """Decode a token of each running row, then read a portion; return the new characters.

        Rows that end in it are left to `remove_ended`, which the caller calls between steps.
        """
        return self._decode() + self._read()

    def _rows(self) -> list[Row]:
        staged = [] if self._staged is None else [self._staged]
        return [*self._decoding, *staged, *self._moved, *self._joining]

    def _read(self) -> int:
        generated = read = 0
        while read < PORTION:
            if self._staged is None:
                waiting = self._moved or self._joining
                if not waiting:
                    break
                self._staged = waiting.popleft()
            row = self._staged
            tokens = row.unread(PORTION)
            logits = self._decoder.read(tokens, row.read)
            row.read += len(tokens)
            read += len(tokens)
            if row.read > row.position:
                self._decoder.cache.join(row.read)
                self._decoding.append(row)
                self._staged = None
                generated += self._advance([row], logits)
        return generated

    def _decode(self) -> int:
        if not self._decoding:
            return 0
        rows = list(self._decoding)
        logits = self._decoder.step([r.tokens[-1] for r in rows], [r.position for r in rows])
        return self._advance(rows, logits)

    def _advance(self, rows: list[Row], logits: Tensor) -> int:
        """Draw each row's next token; set aside the rows whose window it moves."""
        generated = 0
        for row, token in zip(rows, sample(logits, [row.draw() for row in rows]), strict=True):
            generated += row.take(token)
            if not row.generation.ended and row.move_window():
                self._stop_decoding(row)
                self._moved.append(row)
        return generated

    def _stop_decoding(self, row: Row) -> None:
        place = self._decoding.index(row)
        self._decoder.cache.leave(place)
        last = self._decoding.pop()
        if last is not row:
            self._decoding[place] = last
