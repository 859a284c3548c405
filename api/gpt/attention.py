"""Attention over the positions in use, with keys and values of int8; a row reads its own slot only.

Keys, values and queries have one scale per position and head. Both sums over bytes (of a query with
a key, of weights with values) are exact in int32; the weights are rounded to 16 bits and summed as
two bytes. What lies behind a row's last position is multiplied by zero as an integer, so it cannot
show whatever it is.

Layout of one slot, layer and head, S positions (a multiple of 16), D numbers: keys as
[S / 16][D / 4][16][4] bytes offset by 128, values as [D / 16][S / 4][16][4] signed bytes, scales
(S,).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from api.gpt.rowwise import NOT_SIGN, ROUND, TINY, ZERO, exp, peak_of, quantise
from api.gpt.simd import (
    bits,
    copy_quad,
    dot,
    float_of_bits,
    fma,
    largest,
    largest_i,
    load,
    quad,
    splat,
    store,
    store_bytes,
    to_float,
    total,
    upper,
    upper_i,
)

LOWEST = np.float32(-1e30)
TWO_BYTES, BYTE = np.float32(65535), np.float32(256)


@njit(nogil=True, error_model="numpy")
def remember(qkv, first, width, size, context, position, place, cache, line):
    """Write the key and the value of one position and head. place: number of slot, layer, head."""
    base, scale_at = place * context * size, place * context + position
    k0, v0 = first + width, first + 2 * width
    scale, _ = quantise(qkv, k0, size, peak_of(qkv, k0, size), line, 0, 128)
    cache.key_scales[scale_at] = scale
    at = base + (position // 16) * 16 * size + (position % 16) * 4
    for d in range(0, size, 4):
        copy_quad(cache.keys, at + d * 16, line, d)
    scale, _ = quantise(qkv, v0, size, peak_of(qkv, v0, size), line, 0, 0)
    cache.value_scales[scale_at] = scale
    at = base + (position // 4) * 64 + position % 4
    for block in range(0, size, 16):
        for d in range(16):
            cache.values[at + block * context + d * 4] = line[block + d]


@njit(nogil=True, error_model="numpy")
def attend(qkv, first, size, context, position, place, cache, line, scores, low, high, y, y0):
    """y[y0:][:size] = the attention of one position and head over all up to its own."""
    base, scales_at = place * context * size, place * context
    scale, query_sum = quantise(qkv, first, size, peak_of(qkv, first, size), line, 0, 0)
    by = splat(np.float32(scale / math.sqrt(size)))
    start = splat(np.int32(-128 * query_sum))
    count = position + 1
    padded = (count + 15) // 16 * 16

    most = splat(LOWEST)
    for j in range(0, padded, 16):
        sums, at = start, base + j * size
        for d in range(0, size, 4):
            sums = dot(sums, load(cache.keys, at + d * 16), quad(line, d))
        score = to_float(sums) * by * load(cache.key_scales, scales_at + j)
        store(scores, j, score)
        if j + 16 > count:
            for i in range(count, padded):
                scores[i] = LOWEST
            score = load(scores, j)
        most = upper(most, score)
    top = splat(largest(most))

    sums_f = splat(ZERO)
    peak = splat(np.int32(0))
    for j in range(0, padded, 16):
        share = exp(load(scores, j) - top)
        sums_f = sums_f + share
        weight = share * load(cache.value_scales, scales_at + j)
        store(scores, j, weight)
        if j + 16 > count:
            for i in range(count, padded):
                scores[i] = ZERO
            weight = load(scores, j)
        peak = upper_i(peak, bits(weight) & splat(NOT_SIGN))
    size_of_peak = float_of_bits(largest_i(peak))
    by = splat(ZERO if size_of_peak < TINY else TWO_BYTES / size_of_peak)
    for j in range(0, padded, 16):
        rounded = bits(fma(load(scores, j), by, splat(ROUND)))
        store_bytes(low, j, rounded)
        store_bytes(high, j, rounded >> splat(8))

    by = splat(np.float32(size_of_peak / (TWO_BYTES * total(sums_f))))
    for d in range(0, size, 16):
        below, above = splat(np.int32(0)), splat(np.int32(0))
        at = base + d * context
        for j in range(0, count, 4):
            values = load(cache.values, at + j * 16)
            below = dot(below, quad(low, j), values)
            above = dot(above, quad(high, j), values)
        store(y, y0 + d, fma(to_float(above), splat(BYTE), to_float(below)) * by)
