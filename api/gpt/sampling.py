"""From logits to tokens: a row's draw depends on its own logits, settings, seed and position only.

Random numbers are not taken from a stream that rows would share: they are computed from (seed,
position) by Philox 4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3" (SC 2011). Logits that are not finite raise `NonFiniteLogitsError`: a broken
model or a leaked cache slot must not turn into text.

Shapes: N rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


class NonFiniteLogitsError(ArithmeticError):
    """The model's output is not a number."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One row's settings and its place in its own random stream."""

    seed: int  # 0..2^63-1
    position: int  # tokens generated before this one
    temperature: float  # 0 is greedy
    top_k: int | None = None
    top_p: float | None = None


def philox4x32(
    counter: tuple[int, int, int, int], key: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return four 32-bit words: Philox 4x32 with 10 rounds."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        left, right = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (right >> 32) ^ c1 ^ k0,
            right & _MASK,
            (left >> 32) ^ c3 ^ k1,
            left & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def uniform(seed: int, position: int) -> float:
    """Return the number in [0, 1), of 53 random bits, that belongs to (seed, position)."""
    words = philox4x32((position & _MASK, position >> 32, 0, 0), (seed & _MASK, seed >> 32))
    return ((words[1] << 32 | words[0]) >> 11) * 2.0**-53


def sample(logits: Tensor, draws: Sequence[Draw]) -> list[int]:
    """Return one token for each row. logits (N, V) float32."""
    if not bool(torch.isfinite(logits).all()):
        raise NonFiniteLogitsError("the model's output is not finite")
    greedy = logits.argmax(1).tolist()
    if all(draw.temperature == 0 for draw in draws):
        return greedy
    drawn = _draw(_probabilities(logits, draws), draws).tolist()
    return [
        best if draw.temperature == 0 else token
        for draw, best, token in zip(draws, greedy, drawn, strict=True)
    ]


def _probabilities(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Return each row's distribution (N, V) float64, not normalised where it was truncated."""
    temperature = torch.tensor([d.temperature or 1.0 for d in draws], dtype=torch.float64)
    # The maximum comes off first, so that the smallest temperature gives -inf and never nan.
    scores = (logits.double() - logits.amax(1, keepdim=True)) / temperature[:, None]
    probabilities = scores.softmax(1)
    if any(d.top_k is not None or d.top_p is not None for d in draws):
        # A row that is not truncated is multiplied by ones: exactly what it is without neighbours.
        probabilities *= _kept(probabilities, draws)
    return probabilities


def _kept(probabilities: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Return 1.0 for each token among the top k and, of those, in the top p; else 0.0."""
    vocabulary = probabilities.shape[1]
    # Clamped as Python's integers, which hold whatever a caller sends; a tensor's do not.
    top_k = torch.tensor([min(d.top_k or vocabulary, vocabulary) for d in draws])
    top_p = torch.tensor([2.0 if d.top_p is None else d.top_p for d in draws], dtype=torch.float64)
    ordered, tokens = probabilities.sort(dim=1, descending=True, stable=True)
    kept = torch.arange(vocabulary) < top_k[:, None]
    ordered *= kept
    cumulative = ordered.cumsum(1)
    before = cumulative - ordered  # the share of what ranks higher: 0 for the first
    kept &= before < top_p[:, None] * cumulative[:, -1:]
    return torch.zeros_like(probabilities).scatter_(1, tokens, kept.double())


def _draw(probabilities: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Return the token (N,) at which each row's cumulative distribution passes its draw."""
    u = torch.tensor([uniform(d.seed, d.position) for d in draws], dtype=torch.float64)
    cumulative = probabilities.cumsum(1)
    total = cumulative[:, -1:]
    passed = (cumulative <= u[:, None] * total).sum(1)
    last = (cumulative < total).sum(1)  # rounding must not draw a token that has no share
    return torch.minimum(passed, last)
