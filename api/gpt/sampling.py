"""How a row's next token is drawn, and drawing it from logits that another library computed.

Random numbers are not taken from a stream that rows would share: each is computed from its seed and
position alone (`draw.py`). Logits that are not finite raise `NonFiniteLogitsError`: a broken
model or a leaked cache slot must not turn into text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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


def prepare() -> None:
    """Load what draws, or compile it: some seconds that no caller is to wait for."""
    sample(np.zeros((1, 1), np.float32), [Draw(seed=0, position=0, temperature=1.0)])


def sample(logits: NDArray[np.float32], draws: Sequence[Draw]) -> list[int]:
    """Return one token for each row. logits (rows, vocabulary)."""
    from api.gpt.draw import NOT_FINITE, draw_each

    rows, vocabulary = logits.shape
    padded = np.zeros((rows, -(-vocabulary // 16) * 16), np.float32)
    padded[:, :vocabulary] = logits
    tokens = np.zeros(rows, np.int64)
    draw_each(
        padded.reshape(-1),
        vocabulary,
        np.array([d.temperature for d in draws], np.float64),
        np.array([min(d.top_k or vocabulary, vocabulary) for d in draws], np.int64),
        np.array([1.0 if d.top_p is None else d.top_p for d in draws], np.float64),
        np.array([d.seed for d in draws], np.uint64),
        np.array([d.position for d in draws], np.uint64),
        tokens,
    )
    if (tokens == NOT_FINITE).any():
        raise NonFiniteLogitsError("the model's output is not finite")
    return tokens.tolist()
