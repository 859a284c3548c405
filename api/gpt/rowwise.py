"""What happens within a row between two products: norm, activation, rounding to int8.

Every function works on one row and adds up in one fixed order. A number that is not finite makes
the scale of its row not finite, and so all that follows: it is never rounded away.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from api.gpt.simd import (
    bits,
    float_of_bits,
    fma,
    from_bits,
    largest_i,
    load,
    lower,
    splat,
    store,
    store_bytes,
    total,
    total_i,
    upper,
    upper_i,
)

GELU, GELU_TANH, RELU = 0, 1, 2
EPSILON = 1e-5  # of the layer norms, as torch has it

# Added to a float32 below 2^22 in size, it leaves the nearest integer in the lowest bits.
ROUND = np.float32(1.5 * 2**23)
ROUND_BITS = int(ROUND.view(np.int32))
NOT_SIGN = 0x7FFFFFFF
TINY = np.float32(1e-30)  # a row with nothing larger is a row of zeros

LOG2_E = np.float32(math.log2(math.e))
# ln 2 in two parts, the first short enough that its multiples are exact (Cody and Waite 1980).
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(math.log(2) - 0.693359375)
E0, E1, E2, E3, E4, E5, E6 = (np.float32(1 / math.factorial(i)) for i in range(7))

# The normal distribution function less 1/2, over x, as P(x^2) / Q(x^2) on |x| <= 5: within 7e-9
# before rounding. A least-squares fit, reweighted until its largest errors were level.
P0, P1, P2, P3, P4, P5, P6 = map(
    np.float32,
    (
        0.39894224057893435, 0.03066913164246372, 0.004175137754136109, 0.00011894721639225832,
        2.8177537654230737e-06, -2.386586135877743e-08, 1.4046636687438591e-10,
    ),
)  # fmt: skip
Q1, Q2, Q3, Q4 = map(
    np.float32,
    (0.24354207061212205, 0.02605731190819969, 0.0015273214189224626, 4.638008892129004e-05),
)
TANH_1 = np.float32(2 * math.sqrt(2 / math.pi))
TANH_3 = np.float32(2 * math.sqrt(2 / math.pi) * 0.044715)
ZERO, HALF, ONE, FIVE = np.float32(0), np.float32(0.5), np.float32(1), np.float32(5)
EXP_LEAST, EXP_MOST = np.float32(-87), np.float32(88)


@njit(nogil=True, error_model="numpy")
def exp(x):
    """e^x within 2e-7 of itself, for 16 numbers; what is beyond a float32 is at its edge."""
    x = lower(splat(EXP_MOST), upper(splat(EXP_LEAST), x))
    shifted = fma(x, splat(LOG2_E), splat(ROUND))
    whole = shifted - splat(ROUND)
    rest = fma(whole, splat(-LN2_LOW), fma(whole, splat(-LN2_HIGH), x))
    y = fma(rest, splat(E6), splat(E5))
    y = fma(rest, y, splat(E4))
    y = fma(rest, y, splat(E3))
    y = fma(rest, y, splat(E2))
    y = fma(rest, y, splat(E1))
    y = fma(rest, y, splat(E0))
    # The exponent of 2^whole is added in place; the bits of ROUND above it shift out.
    return from_bits(bits(y) + (bits(shifted) << splat(23)))


@njit(nogil=True, error_model="numpy")
def activate(kind, x):
    if kind == GELU:
        z = lower(splat(FIVE), upper(splat(-FIVE), x))
        s = z * z
        p = fma(s, splat(P6), splat(P5))
        p = fma(s, p, splat(P4))
        p = fma(s, p, splat(P3))
        p = fma(s, p, splat(P2))
        p = fma(s, p, splat(P1))
        p = fma(s, p, splat(P0))
        q = fma(s, splat(Q4), splat(Q3))
        q = fma(s, q, splat(Q2))
        q = fma(s, q, splat(Q1))
        q = fma(s, q, splat(ONE))
        return x * (z * p / q + splat(HALF))
    if kind == GELU_TANH:  # x * (1 + tanh z) / 2 is x / (1 + e^-2z)
        z = x * fma(x * x, splat(TANH_3), splat(TANH_1))
        return x / (splat(ONE) + exp(splat(ZERO) - z))
    return upper(splat(ZERO), x)


@njit(nogil=True, error_model="numpy")
def quantise(values, first, count, peak, rounded, start, offset):
    """Round values[first:][:count] to int8 plus `offset`; return their scale and their sum.

    peak: the bits of the largest size among them.
    """
    size = float_of_bits(peak)
    inverse = ZERO if size < TINY else np.float32(127) / size
    by, sums = splat(inverse), splat(np.int32(0))
    for i in range(0, count, 16):
        whole = bits(fma(load(values, first + i), by, splat(ROUND))) - splat(ROUND_BITS)
        sums = sums + whole
        store_bytes(rounded, start + i, whole + splat(offset))
    scale = ZERO if size < TINY else size / np.float32(127)
    return scale, total_i(sums)


@njit(nogil=True, error_model="numpy")
def peak_of(values, first, count):
    """Return the bits of the largest size: as integers, those of what is not finite are largest."""
    peak = splat(np.int32(0))
    for i in range(0, count, 16):
        peak = upper_i(peak, bits(load(values, first + i)) & splat(NOT_SIGN))
    return largest_i(peak)


@njit(nogil=True, error_model="numpy")
def normalise(x, first, width, gains, shifts, g0, line, rounded, start):
    """Layer norm of x[first:][:width], rounded to int8; return its scale and its sum."""
    sums = splat(ZERO)
    for i in range(0, width, 16):
        sums = sums + load(x, first + i)
    mean = splat(np.float32(total(sums) / width))
    sums = splat(ZERO)
    for i in range(0, width, 16):
        d = load(x, first + i) - mean
        sums = fma(d, d, sums)
    by = splat(np.float32(1.0 / math.sqrt(total(sums) / width + EPSILON)))
    peak = splat(np.int32(0))
    for i in range(0, width, 16):
        y = fma((load(x, first + i) - mean) * by, load(gains, g0 + i), load(shifts, g0 + i))
        peak = upper_i(peak, bits(y) & splat(NOT_SIGN))
        store(line, i, y)
    return quantise(line, 0, width, largest_i(peak), rounded, start, 0)
