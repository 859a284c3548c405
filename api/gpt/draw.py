"""From logits to a token, compiled: a draw depends on its own logits, settings, seed and position.

Philox of (seed, position) gives a number in [0, 1); the token is where the cumulative distribution,
after temperature, top k and top p of what that leaves, passes it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from api.gpt.rowwise import exp
from api.gpt.simd import float_of_bits, load, splat, store

NOT_FINITE = -1
MASK = np.uint64(0xFFFFFFFF)
MULTIPLY_0, MULTIPLY_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
HALF_WORD, TO_53 = np.uint64(32), np.uint64(11)
LARGEST_BITS = 0x3F800000  # of 1.0, the largest share


@njit(nogil=True, error_model="numpy")
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Four words of 32 bits from a counter of four and a key of two: Philox 4x32, 10 rounds.

    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). All are uint64.
    """
    for _ in range(10):
        left, right = MULTIPLY_0 * c0, MULTIPLY_1 * c2
        c0, c1, c2, c3 = (
            (right >> HALF_WORD) ^ c1 ^ k0,
            right & MASK,
            (left >> HALF_WORD) ^ c3 ^ k1,
            left & MASK,
        )
        k0, k1 = (k0 + WEYL_0) & MASK, (k1 + WEYL_1) & MASK
    return c0, c1, c2, c3


@njit(nogil=True, error_model="numpy")
def uniform(seed, position):
    """The number in [0, 1), of 53 random bits, that belongs to (seed, position), both uint64."""
    none = np.uint64(0)
    c0, c1, _, _ = philox4x32(
        position & MASK, position >> HALF_WORD, none, none, seed & MASK, seed >> HALF_WORD
    )
    return np.float64((c1 << HALF_WORD | c0) >> TO_53) * 2.0**-53


@njit(nogil=True, error_model="numpy")
def _above(shares, first, vocabulary, least):
    """Return how many shares are at least `least`, and their sum."""
    count, mass = 0, 0.0
    for i in range(first, first + vocabulary):
        if shares[i] >= least:
            count += 1
            mass += shares[i]
    return count, mass


@njit(nogil=True, error_model="numpy")
def _truncate(shares, first, vocabulary, top_k, top_p):
    """Set to zero all but the top k and, of those, the fewest that hold top_p of their sum.

    Among equal shares the lower tokens come first. The least share that stays is found by halving
    the range of its bits, which for numbers above zero are in the order of the numbers.
    """
    for by_mass in range(2):
        if by_mass == 0 and top_k >= vocabulary:
            continue
        if by_mass == 1 and top_p >= 1.0:
            continue
        _, whole = _above(shares, first, vocabulary, np.float32(0))
        wanted = top_p * whole
        low, high = 0, LARGEST_BITS + 1  # enough is kept at low, too little at high
        while high - low > 1:
            middle = (low + high) // 2
            count, mass = _above(shares, first, vocabulary, float_of_bits(np.int32(middle)))
            enough = mass >= wanted if by_mass else count >= top_k
            if enough:
                low = middle
            else:
                high = middle
        least = float_of_bits(np.int32(low))
        count, mass = _above(shares, first, vocabulary, float_of_bits(np.int32(low + 1)))
        for i in range(first, first + vocabulary):
            if shares[i] > least:
                continue
            if shares[i] == least and (mass < wanted if by_mass else count < top_k):
                count += 1
                mass += shares[i]
            else:
                shares[i] = np.float32(0)


@njit(nogil=True, error_model="numpy")
def draw(logits, first, vocabulary, temperature, top_k, top_p, seed, position):
    """Return the token drawn from logits[first:][:vocabulary], or NOT_FINITE; spoils the logits."""
    best, most = 0, logits[first]
    for i in range(vocabulary):
        value = logits[first + i]
        if not np.isfinite(value):
            return NOT_FINITE
        if value > most:
            best, most = i, value
    if temperature == 0.0:
        return best
    inverse = np.float32(1.0 / temperature) if temperature > 1e-30 else np.float32(1e30)
    for i in range(0, vocabulary, 16):
        share = exp((load(logits, first + i) - splat(most)) * splat(inverse))
        store(logits, first + i, share)
    if top_k < vocabulary or top_p < 1.0:
        _truncate(logits, first, vocabulary, top_k, top_p)
    whole = 0.0
    for i in range(first, first + vocabulary):
        whole += logits[i]
    target = uniform(seed, position) * whole
    passed, last = 0.0, best
    for i in range(vocabulary):
        share = logits[first + i]
        if share > 0:
            passed += share
            last = i
            if passed > target:
                break
    return last


@njit(nogil=True, error_model="numpy", cache=True)
def draw_each(logits, vocabulary, temperature, top_k, top_p, seed, position, tokens):
    """Draw for each row of logits, which are filled up to a multiple of 16 of them; spoils them."""
    padded = len(logits) // len(tokens)
    for row in range(len(tokens)):
        tokens[row] = draw(
            logits, row * padded, vocabulary, temperature[row], top_k[row], top_p[row], seed[row],
            position[row],
        )  # fmt: skip
