"""What the compiled kernels work on: arrays of one dimension, by name; pure layout."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Where the words that threads share are in `Work.shared`: a cache line each.
ARRIVED, ROUND_NUMBER, INTERRUPT, ITEMS, DRAWS, STOP, STEPS, BROKEN = range(0, 64, 8)
SHARED = 64


class Shape(NamedTuple):
    layers: int
    heads: int
    width: int
    hidden: int
    vocabulary: int
    context: int  # positions, filled up to a multiple of 16
    activation: int


class Weights(NamedTuple):
    """Arrays with one dimension. Matrices in order: qkv, proj, up, down of each layer; the head."""

    tokens: np.ndarray  # float32, V x C
    positions: np.ndarray  # float32, S x C
    gains: np.ndarray  # float32, (2L + 1) x C
    shifts: np.ndarray
    matrices: np.ndarray  # uint8, see gemm.py
    matrix_at: np.ndarray  # int64, where in it each begins
    scales: np.ndarray  # float32, of every output
    biases: np.ndarray
    output_at: np.ndarray  # int64, where in both each matrix begins


class Cache(NamedTuple):
    """See attention.py."""

    keys: np.ndarray  # uint8
    key_scales: np.ndarray  # float32
    values: np.ndarray  # uint8
    value_scales: np.ndarray  # float32


class Slots(NamedTuple):
    """What is known of each slot's row; `run` advances the first four."""

    token: np.ndarray  # int64: the next to be read
    position: np.ndarray  # int64: where in the window
    drawn: np.ndarray  # int64: tokens drawn so far, the place in the random stream
    left: np.ndarray  # int64: how many may be drawn before the caller must look
    seed: np.ndarray  # uint64
    temperature: np.ndarray  # float64
    top_k: np.ndarray  # int64
    top_p: np.ndarray  # float64


class Work(NamedTuple):
    """Buffers of one run; those marked T are per thread, one after the other."""

    shared: np.ndarray  # int64
    slot: np.ndarray  # int64, of each item
    token: np.ndarray  # int64
    position: np.ndarray  # int64
    draws: np.ndarray  # int64: the items whose next token is drawn
    drawn: np.ndarray  # int64: steps x slots, the tokens that were
    x: np.ndarray  # float32, T: items x C
    added: np.ndarray  # float32: items x C
    qkv: np.ndarray  # float32: items x 3C
    mixed: np.ndarray  # float32: items x C
    hidden: np.ndarray  # float32: items x hidden
    peaks: np.ndarray  # int32: T x items
    logits: np.ndarray  # float32: items x V
    rounded: np.ndarray  # int8, T: items x max(C, hidden)
    scales: np.ndarray  # float32, T: items
    starts: np.ndarray  # int32, T: items
    line: np.ndarray  # float32, T: C
    bytes: np.ndarray  # uint8, T: D + 2S
    scores: np.ndarray  # float32, T: S
