"""Keys and values of the rows being decoded: allocated once, dense, and never another row's.

Rows 0..count-1 are in use, so that a step works on one plain slice whatever came and went: a row
that leaves is replaced by the last one. One row more is the stage, where a text is read in chunks
before it joins. Joining overwrites the whole row, zeros where there is no token yet; so nothing of
the row's former tenant is ever read, not even masked.

Attention always runs over all `block_size` positions of a row with the later ones masked: its sums
have the same layout at every step, whoever the neighbours are, and for a text that is read.

Shapes: N rows, H heads, S positions (`block_size`), D head size, T positions of one chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from api.gpt.shape import GPTConfig


class KVCache:
    """Preallocated float32 keys and values for `slots` rows and the stage."""

    def __init__(self, config: GPTConfig, slots: int) -> None:
        shape = (config.n_layer, slots + 1, config.n_head, config.block_size, config.head_size)
        self.keys, self.values = torch.zeros(shape), torch.zeros(shape)
        self.slots, self.count = slots, 0

    def join(self, length: int) -> int:
        """Make what is staged, `length` positions, the last row in use; return its number."""
        if self.count == self.slots:
            raise IndexError("every slot is taken")
        row = self.count
        for tensor in (self.keys, self.values):
            tensor[:, row, :, :length] = tensor[:, self.slots, :, :length]
            tensor[:, row, :, length:] = 0.0
        self.count += 1
        return row

    def leave(self, row: int) -> None:
        """Free a row; the last row in use takes its number."""
        if not 0 <= row < self.count:
            raise IndexError(f"row {row} is not in use")
        self.count -= 1
        if row != self.count:
            for tensor in (self.keys, self.values):
                tensor[:, row] = tensor[:, self.count]


class StagedChunk:
    """Attention of one chunk of one text, positions start..start+T-1, on the stage.

    Each position is computed as if it were a row of a `DecodeStep`, so that reading a text leaves
    the bits that drawing it left.
    """

    def __init__(self, cache: KVCache, start: int, length: int) -> None:
        self.cache, self.start, self.end = cache, start, start + length
        if start == 0:  # what was there is not seen, but multiplied by zero
            cache.keys[:, cache.slots] = 0.0
            cache.values[:, cache.slots] = 0.0
        own = torch.arange(start, self.end)[:, None]
        places = torch.arange(cache.keys.shape[3])
        self.mask = _mask(places <= own)[:, None, None, :]  # (T, 1, 1, S)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        stage = self.cache.slots
        keys, values = self.cache.keys[layer, stage], self.cache.values[layer, stage]
        keys[:, self.start : self.end] = k[0]
        values[:, self.start : self.end] = v[0]
        rows = len(self.mask)
        y = F.scaled_dot_product_attention(
            q.transpose(0, 2),  # (T, H, 1, D)
            keys.expand(rows, -1, -1, -1),
            values.expand(rows, -1, -1, -1),
            attn_mask=self.mask,
        )
        return y.transpose(0, 2)


class DecodeStep:
    """Attention of one new position for a span of the rows in use."""

    def __init__(self, cache: KVCache, rows: slice, positions: Tensor) -> None:
        """positions (N,) int64: where each row's new token stands."""
        self.cache, self.rows, self.positions = cache, rows, positions
        self.index = torch.arange(len(positions))
        places = torch.arange(cache.keys.shape[3])
        self.mask = _mask(places <= positions[:, None])[:, None, None, :]  # (N, 1, 1, S)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self.cache.keys[layer, self.rows], self.cache.values[layer, self.rows]
        keys[self.index, :, self.positions] = k[:, :, 0]
        values[self.index, :, self.positions] = v[:, :, 0]
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=self.mask)


def _mask(visible: Tensor) -> Tensor:
    return torch.zeros(visible.shape).masked_fill_(~visible, -torch.inf)
