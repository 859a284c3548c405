"""Products of int8 matrices with exact int32 sums: nothing about them depends on the other rows.

A weight matrix (N outputs, K inputs) is stored as bytes offset by 128, in blocks of 16 outputs; in
a block, four inputs of each of the 16 outputs follow one another, as `simd.dot` takes them. The
offset is undone where the sums begin: a row's sums start at -128 times the sum of the row.

`product` computes y = sums * (row's scale) * (output's scale) + bias in float32, tile by tile. A
tile keeps its sums in registers; how rows and outputs are cut into tiles is seen in nothing but
time.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from api.gpt import processor
from api.gpt.simd import (
    F32,
    I8,
    I32,
    I64,
    LANES,
    VF32,
    VI32,
    data_pointer,
    dot_product,
    pointer,
    spread,
)


def pack(weight):
    """Return int8 weights (N, K) as the bytes described above, N filled up to a multiple of 16."""
    outputs, inputs = weight.shape
    filled = np.zeros((-(-outputs // LANES) * LANES, inputs), np.int8)
    filled[:outputs] = weight
    blocks = (filled.view(np.uint8) ^ 128).reshape(-1, LANES, inputs // 4, 4)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3)).reshape(-1)


def _tile(rows, blocks):
    """Return an intrinsic that computes `rows` rows, from r on, of `blocks` blocks of 16 outputs.

    Its other arguments: x int8 with `inputs` a row, every row's scale and first sum; the weights,
    with the first block at w0; the outputs' scales and biases, with the first at n0; y with the
    first output of its row 0 at y0, and its rows ldy apart.
    """

    @intrinsic
    def tile(_typing, x, scales, starts, r, inputs, w, w0, w_scales, bias, n0, y, y0, ldy):
        i = types.intp
        signature = types.void(x, scales, starts, i, i, w, i, w_scales, bias, i, y, i, i)

        def emit(context, builder, signature, values):
            x, scales, starts, w, w_scales, bias, y = (
                data_pointer(context, builder, signature.args[place], values[place])
                for place in (0, 1, 2, 5, 7, 8, 10)
            )
            r, inputs, w0, n0, y0, ldy = (values[place] for place in (3, 4, 6, 9, 11, 12))

            def at(array, kind, start, *steps):
                """The address of array[start + the sum of numbers times strides]."""
                for number, stride in steps:
                    start = builder.add(start, builder.mul(number, stride))
                return pointer(builder, array, start, kind)

            def row(number):
                return builder.add(r, I64(number))

            x_rows = [at(x, I8, I64(0), (row(i), inputs)) for i in range(rows)]
            block_bytes = builder.mul(inputs, I64(LANES))
            w_blocks = [at(w, I8, w0, (I64(b), block_bytes)) for b in range(blocks)]
            first = [spread(builder, builder.load(at(starts, I32, row(i)))) for i in range(rows)]
            before = builder.block
            loop = builder.append_basic_block("over_inputs")
            after = builder.append_basic_block("scaled")
            builder.branch(loop)

            builder.position_at_end(loop)
            k = builder.phi(I64)  # of four inputs each
            sums = [[builder.phi(VI32) for _ in range(blocks)] for _ in range(rows)]
            weights = [
                builder.load(at(block, VI32, I64(0), (k, I64(4 * LANES))), align=64)
                for block in w_blocks
            ]
            added = []
            for x_row, row_sums in zip(x_rows, sums, strict=True):
                quad = spread(builder, builder.load(at(x_row, I32, I64(0), (k, I64(4))), align=4))
                added.append(
                    [
                        dot_product(builder, so_far, weight, quad)
                        for so_far, weight in zip(row_sums, weights, strict=True)
                    ]
                )
            following = builder.add(k, I64(1))
            k.add_incoming(I64(0), before)
            k.add_incoming(following, loop)
            for i in range(rows):
                for b in range(blocks):
                    sums[i][b].add_incoming(first[i], before)
                    sums[i][b].add_incoming(added[i][b], loop)
            end = builder.lshr(inputs, I64(2))
            builder.cbranch(builder.icmp_signed("<", following, end), loop, after)

            builder.position_at_end(after)
            for b in range(blocks):
                outputs = builder.add(n0, I64(LANES * b))
                w_scale = builder.load(at(w_scales, VF32, outputs), align=4)
                shift = builder.load(at(bias, VF32, outputs), align=4)
                for i in range(rows):
                    scale = spread(builder, builder.load(at(scales, F32, row(i))))
                    result = builder.fmul(builder.sitofp(added[i][b], VF32), scale)
                    result = builder.fadd(builder.fmul(result, w_scale), shift)
                    where = builder.add(y0, I64(LANES * b))
                    builder.store(result, at(y, VF32, where, (row(i), ldy)), align=4)
            return context.get_dummy_value()

        return signature, emit

    return tile


# Sums that fill most of 32 registers, where a sum is one of them.
HIGH, LOW = (8, 4) if processor.kind.has_vnni else (2, 2)
_high, _low, _two, _one = _tile(HIGH, 3), _tile(LOW, 3), _tile(2, 3), _tile(1, 3)
_high_rest, _one_rest = _tile(HIGH, 1), _tile(1, 1)


@njit(nogil=True, error_model="numpy")
def product(rows, x, scales, starts, inputs, weights, m, first, last, y, ldy):
    """y[r, 16 * first:16 * last] = the outputs of matrix m in these blocks, for every row r.

    x int8 (rows, inputs); scales and starts (rows,); y float32, its rows ldy apart.
    """
    w, w_scales, bias = weights.matrices, weights.scales, weights.biases
    b = first
    while b < last:
        at, n, out = weights.matrix_at[m] + b * inputs * 16, weights.output_at[m] + b * 16, b * 16
        r = 0
        if last - b >= 3:
            b += 3
            while rows - r >= HIGH:
                _high(x, scales, starts, r, inputs, w, at, w_scales, bias, n, y, out, ldy)
                r += HIGH
            while rows - r >= LOW:
                _low(x, scales, starts, r, inputs, w, at, w_scales, bias, n, y, out, ldy)
                r += LOW
            while rows - r >= 2:
                _two(x, scales, starts, r, inputs, w, at, w_scales, bias, n, y, out, ldy)
                r += 2
            if r < rows:
                _one(x, scales, starts, r, inputs, w, at, w_scales, bias, n, y, out, ldy)
        else:
            b += 1
            while rows - r >= HIGH:
                _high_rest(x, scales, starts, r, inputs, w, at, w_scales, bias, n, y, out, ldy)
                r += HIGH
            while r < rows:
                _one_rest(x, scales, starts, r, inputs, w, at, w_scales, bias, n, y, out, ldy)
                r += 1
