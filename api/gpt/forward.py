"""One pass of the model over any mix of rows, and the draws after it, without Python in between.

Threads split outputs and heads and meet at barriers; what each of them needs of a whole row (norms,
rounding) each computes for itself. Nothing is added up across threads, so their number does not
show. A caller runs `run` in every thread, with the thread's number.

Shapes: items (one token of one slot each), L layers, H heads, C width, S positions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from api.gpt.attention import attend, remember
from api.gpt.buffers import BROKEN, DRAWS, INTERRUPT, ITEMS, STEPS, STOP
from api.gpt.draw import draw
from api.gpt.gemm import product
from api.gpt.meeting import meet, peek, poke
from api.gpt.rowwise import NOT_SIGN, activate, normalise, peak_of, quantise
from api.gpt.simd import bits, largest_i, load, splat, store, upper_i


@njit(nogil=True, error_model="numpy")
def _forward(t, threads, shape, weights, cache, work, x, rounded, scales, starts, line, b, scores):
    """Leave the logits of the items that draw in work.logits."""
    width, hidden, context = shape.width, shape.hidden, shape.context
    size = width // shape.heads
    items = work.shared[ITEMS]
    h0, h1 = shape.heads * t // threads, shape.heads * (t + 1) // threads
    c0, c1 = width // 16 * t // threads, width // 16 * (t + 1) // threads
    u0, u1 = hidden // 16 * t // threads, hidden // 16 * (t + 1) // threads
    low, high = b[size : size + context], b[size + context :]

    for r in range(items):
        token, position = work.token[r] * width, work.position[r] * width
        for i in range(0, width, 16):
            v = load(weights.tokens, token + i) + load(weights.positions, position + i)
            store(x, r * width + i, v)

    for layer in range(shape.layers):
        m = 4 * layer
        for r in range(items):
            if layer > 0:
                _add(x, work.added, r * width, width)
            scale, whole = normalise(
                x,
                r * width,
                width,
                weights.gains,
                weights.shifts,
                2 * layer * width,
                line,
                rounded,
                r * width,
            )
            scales[r], starts[r] = scale, -128 * whole
        for part in range(3):
            first = part * width // 16
            product(
                items,
                rounded,
                scales,
                starts,
                width,
                weights,
                m,
                first + h0 * size // 16,
                first + h1 * size // 16,
                work.qkv,
                3 * width,
            )
        for r in range(items):  # those of one slot in their order: each sees the ones before it
            place = (work.slot[r] * shape.layers + layer) * shape.heads
            for h in range(h0, h1):
                at = r * 3 * width + h * size
                remember(work.qkv, at, width, size, context, work.position[r], place + h, cache, b)
                attend(
                    work.qkv,
                    at,
                    size,
                    context,
                    work.position[r],
                    place + h,
                    cache,
                    b,
                    scores,
                    low,
                    high,
                    work.mixed,
                    r * width + h * size,
                )
        meet(work.shared, threads)

        for r in range(items):
            peak = peak_of(work.mixed, r * width, width)
            scale, whole = quantise(work.mixed, r * width, width, peak, rounded, r * width, 0)
            scales[r], starts[r] = scale, -128 * whole
        product(
            items,
            rounded,
            scales,
            starts,
            width,
            weights,
            m + 1,
            c0,
            c1,
            work.added,
            width,
        )
        meet(work.shared, threads)

        for r in range(items):
            _add(x, work.added, r * width, width)
            scale, whole = normalise(
                x,
                r * width,
                width,
                weights.gains,
                weights.shifts,
                (2 * layer + 1) * width,
                line,
                rounded,
                r * width,
            )
            scales[r], starts[r] = scale, -128 * whole
        product(
            items,
            rounded,
            scales,
            starts,
            width,
            weights,
            m + 2,
            u0,
            u1,
            work.hidden,
            hidden,
        )
        for r in range(items):
            peak = splat(np.int32(0))
            for i in range(r * hidden + u0 * 16, r * hidden + u1 * 16, 16):
                y = activate(shape.activation, load(work.hidden, i))
                store(work.hidden, i, y)
                peak = upper_i(peak, bits(y) & splat(NOT_SIGN))
            work.peaks[t * len(work.slot) + r] = largest_i(peak)
        meet(work.shared, threads)

        for r in range(items):
            peak = work.peaks[r]
            for other in range(1, threads):
                peak = max(peak, work.peaks[other * len(work.slot) + r])
            scale, whole = quantise(work.hidden, r * hidden, hidden, peak, rounded, r * hidden, 0)
            scales[r], starts[r] = scale, -128 * whole
        product(
            items,
            rounded,
            scales,
            starts,
            hidden,
            weights,
            m + 3,
            c0,
            c1,
            work.added,
            width,
        )
        meet(work.shared, threads)

    drawing, m = work.shared[DRAWS], 4 * shape.layers
    for i in range(drawing):
        r = work.draws[i]
        _add(x, work.added, r * width, width)
        scale, whole = normalise(
            x,
            r * width,
            width,
            weights.gains,
            weights.shifts,
            2 * shape.layers * width,
            line,
            rounded,
            i * width,
        )
        scales[i], starts[i] = scale, -128 * whole
    blocks = (shape.vocabulary + 15) // 16
    product(
        drawing,
        rounded,
        scales,
        starts,
        width,
        weights,
        m,
        blocks * t // threads,
        blocks * (t + 1) // threads,
        work.logits,
        blocks * 16,
    )
    meet(work.shared, threads)


@njit(nogil=True, error_model="numpy")
def _add(x, added, first, width):
    for i in range(first, first + width, 16):
        store(x, i, load(x, i) + load(added, i))


@njit(nogil=True, error_model="numpy")
def _advance(step, steps, slots, work):
    """Give each drawing slot its new token to read; say what the next pass is about."""
    drawing = work.shared[DRAWS]
    stop = step + 1 == steps or drawing == 0
    for i in range(drawing):
        r = work.draws[i]
        slot = work.slot[r]
        token = work.drawn[step * len(slots.token) + slot]
        slots.token[slot] = token
        slots.position[slot] = work.position[r] + 1
        slots.drawn[slot] += 1
        slots.left[slot] -= 1
        stop = stop or slots.left[slot] == 0 or token < 0
        # Item i was read by nobody after this pass and lies at or before item r.
        work.slot[i], work.token[i], work.position[i] = slot, token, work.position[r] + 1
        work.draws[i] = i
    work.shared[ITEMS] = drawing
    work.shared[STEPS] = step + 1
    poke(work.shared, STOP, stop or peek(work.shared, INTERRUPT) != 0)


@njit(nogil=True, error_model="numpy", cache=True)
def run(t, threads, shape, weights, cache, slots, work, steps):
    """Pass over the items in `work` and draw, up to `steps` times; a pass reads what the last drew.

    Ends early after the step in which a slot has no more left to draw, or INTERRUPT is seen. Tokens
    are in work.drawn, the number of steps in work.shared[STEPS]; draw.NOT_FINITE where there is no
    token. Where a thread has failed (BROKEN) all end with what they are at, and nothing is drawn.
    """
    most = len(work.slot)
    width, size = shape.width, shape.width // shape.heads
    broadest = max(width, shape.hidden)
    x = work.x[t * most * width :]
    rounded = work.rounded[t * most * broadest :]
    scales, starts = work.scales[t * most :], work.starts[t * most :]
    line = work.line[t * width :]
    own = size + 2 * shape.context
    b = work.bytes[t * own : (t + 1) * own]
    scores = work.scores[t * shape.context :]
    vocabulary = (shape.vocabulary + 15) // 16 * 16
    for step in range(steps):
        _forward(
            t, threads, shape, weights, cache, work, x, rounded, scales, starts, line, b, scores
        )
        for i in range(t, work.shared[DRAWS], threads):
            slot = work.slot[work.draws[i]]
            work.drawn[step * len(slots.token) + slot] = draw(
                work.logits,
                i * vocabulary,
                shape.vocabulary,
                slots.temperature[slot],
                slots.top_k[slot],
                slots.top_p[slot],
                slots.seed[slot],
                np.uint64(slots.drawn[slot]),
            )
        meet(work.shared, threads)
        if peek(work.shared, BROKEN) != 0:
            break
        if t == 0:
            _advance(step, steps, slots, work)
        meet(work.shared, threads)
        if peek(work.shared, STOP) != 0 or peek(work.shared, BROKEN) != 0:
            break
