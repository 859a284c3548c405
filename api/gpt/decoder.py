"""The model in serving form: reads texts in chunks, then advances many rows by a token each step.

A row's logits are the same bits whatever rows stand beside it. At start that is put to the test on
this very processor; where it fails, rows are computed one at a time: slower, and still the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from api.gpt.kv_cache import DecodeStep, KVCache, StagedChunk
from api.gpt.linears import converted, linear
from api.gpt.model import GPT, AttentionCache
from api.gpt.request import GenerationMode


class Decoder:
    """A converted model and its cache. Used by one thread; no call keeps the graph."""

    def __init__(self, model: GPT, mode: GenerationMode, slots: int) -> None:
        self.block_size = model.config.block_size
        self.cache = KVCache(model.config, slots)
        self._model = converted(model, mode)
        self._head = linear(mode, *model.head_parameters())
        self.rows_apart = False
        self.rows_apart = not self._rows_are_independent()

    @torch.inference_mode()
    def read(self, tokens: Sequence[int], start: int) -> Tensor:
        """Put tokens at positions start.. on the stage; return the last one's logits (1, V)."""
        positions = torch.arange(start, start + len(tokens))
        chunk = StagedChunk(self.cache, start, len(tokens))
        return self._forward(torch.tensor([tokens]), positions, chunk)

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
        tokens = [row % self._model.config.vocab_size for row in range(slots)]
        positions = [(self.block_size - 1 + row) % self.block_size for row in range(slots)]
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
