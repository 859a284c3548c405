"""The model in float32 as torch modules, a step at a time: for shapes that the kernels do not cover
and for whoever asks for full precision.

A row's logits are the same bits whatever rows stand beside it, and whether its text was drawn or
read. At start that is put to the test on this very processor; where it fails, rows and positions
are computed one at a time: slower, and still the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from api.gpt.decoder import PORTION, Portion
from api.gpt.kv_cache import DecodeStep, KVCache, StagedChunk
from api.gpt.linears import Float32Linear, converted
from api.gpt.model import GPT, AttentionCache
from api.gpt.sampling import Draw, prepare, sample

log = logging.getLogger(__name__)


class PlainDecoder:
    """A converted model and its cache, whose rows in use are the slots that have read their text.

    A text is read on the cache's stage, so one at a time.
    """

    reads_one_at_a_time = True

    def __init__(self, model: GPT, *, slots: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self._threads = threads
        self.cache = KVCache(model.config, slots)
        self._config = model.config
        self._model = converted(model)
        weight, bias = model.head_parameters()
        self._head = Float32Linear(weight.detach(), None if bias is None else bias.detach())
        prepare()
        self._rows: list[int] = []  # the slot of each row of the cache
        self._next: dict[int, tuple[int, int, Draw]] = {}  # token, position, draw of each of them
        self.rows_apart = False
        self.rows_apart = not (self._rows_are_independent() and self._reading_is_drawing())
        if self.rows_apart:
            log.warning("mode fp32 is not exact here: rows are computed one at a time")

    @torch.inference_mode()
    def run(
        self, portions: Sequence[Portion], running: Mapping[int, int], _steps: int
    ) -> dict[int, list[int]]:
        """Take one step, however many are wanted."""
        torch.set_num_threads(self._threads)  # torch keeps it for each thread
        drawn: dict[int, list[int]] = {}
        if running:
            slots = list(self._rows)
            tokens, positions, draws = zip(*(self._next[slot] for slot in slots), strict=True)
            self._draw(slots, self.step(tokens, positions), positions, draws, drawn)
        for portion in portions:
            logits = self.read(portion.tokens, portion.start)
            if portion.draw is not None:
                end = portion.start + len(portion.tokens)
                self.cache.join(end)
                self._rows.append(portion.slot)
                self._draw([portion.slot], logits, [end - 1], [portion.draw], drawn)
        return drawn

    def release(self, slot: int) -> None:
        if self._next.pop(slot, None) is None:
            return  # it was being read
        row = self._rows.index(slot)
        self.cache.leave(row)
        last = self._rows.pop()
        if last != slot:
            self._rows[row] = last

    def reset(self) -> None:
        self.cache.count = 0
        self._rows.clear()
        self._next.clear()

    def interrupt(self) -> None:
        """Nothing to do: every run is one step."""

    def close(self) -> None:
        """Nothing was started."""

    def _draw(
        self,
        slots: Sequence[int],
        logits: Tensor,
        positions: Sequence[int],
        draws: Sequence[Draw],
        drawn: dict[int, list[int]],
    ) -> None:
        tokens = sample(logits.numpy(), draws)
        for slot, token, position, draw in zip(slots, tokens, positions, draws, strict=True):
            drawn[slot] = [token]
            self._next[slot] = token, position + 1, replace(draw, position=draw.position + 1)

    @torch.inference_mode()
    def read(self, tokens: Sequence[int], start: int) -> Tensor:
        """Put tokens at positions start.. on the stage; return the last one's logits (1, V)."""
        size = 1 if self.rows_apart else len(tokens)
        for first in range(0, len(tokens), size):
            part = torch.tensor([tokens[first : first + size]])
            chunk = StagedChunk(self.cache, start + first, part.shape[1])
            positions = start + first + torch.arange(part.shape[1])
            logits = self._forward(part, positions, chunk)
        return logits

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Give every row in use its next token, in row order; return their logits (N, V)."""
        if self.rows_apart:
            spans = [slice(row, row + 1) for row in range(len(tokens))]
        else:
            spans = [slice(0, len(tokens))]
        return torch.cat([self._step(span, tokens[span], positions[span]) for span in spans])

    def _step(self, rows: slice, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        places = torch.tensor(positions)
        step = DecodeStep(self.cache, rows, places)
        return self._forward(torch.tensor(tokens)[:, None], places[:, None], step)

    def _forward(self, tokens: Tensor, positions: Tensor, cache: AttentionCache) -> Tensor:
        return self._head(self._model.features(tokens, positions, cache)[:, -1])

    @torch.inference_mode()
    def _rows_are_independent(self) -> bool:
        """Compare the rows of a full batch with the same rows among fewer and alone, bit for bit.

        What this leaves in the cache is overwritten by the rows that join.
        """
        slots = self.cache.slots
        generator = torch.Generator().manual_seed(0)
        for tensor in (self.cache.keys, self.cache.values):
            noise = torch.randn(tensor[:, 0].shape, generator=generator)
            for row in range(slots):
                torch.mul(noise, 1 + row / 7, out=tensor[:, row])
        tokens = [row % self._config.vocab_size for row in range(slots)]
        positions = [
            (self._config.block_size - 1 + row) % self._config.block_size for row in range(slots)
        ]
        together = self._step(slice(0, slots), tokens, positions)
        fewer = {1, slots // 2, slots - 3, slots - 2, slots - 1}
        return all(
            torch.equal(
                self._step(slice(first, slots), tokens[first:], positions[first:]),
                together[first:],
            )
            for first in sorted(fewer)
            if 0 < first < slots
        )

    @torch.inference_mode()
    def _reading_is_drawing(self) -> bool:
        """Compare what a text leaves that is read with what it leaves token by token."""
        length = min(PORTION, self._config.block_size)
        tokens = [(7 * i) % self._config.vocab_size for i in range(length)]
        found = []
        for first in (length, 1):
            logits = self.read(tokens[:first], 0)
            row = self.cache.join(first)
            for position in range(first, length):
                logits = self.step([tokens[position]], [position])
            left = (self.cache.keys[:, row, :, :length], self.cache.values[:, row, :, :length])
            found.append((logits, *(tensor.clone() for tensor in left)))
            self.cache.leave(row)
        return all(torch.equal(read, drawn) for read, drawn in zip(*found, strict=True))
