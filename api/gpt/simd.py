"""Vectors of 16 lanes for numba: kernels read as plain expressions and run as vector instructions.

LLVM makes of each operation one instruction of AVX-512, two of AVX2 or four of NEON. The lanes, and
the order in which they are added up, are the same on all of them. The one instruction asked for by
name is VNNI's dot product of bytes; where a processor has none, `dot` is spelled out, with the same
exact sums.

The functions here are for code that numba compiles; called from Python they do nothing useful.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic, overload

from api.gpt import processor

LANES = 16

I8, I16, I32, I64, F32 = (*map(ir.IntType, (8, 16, 32, 64)), ir.FloatType())
VI32, VF32 = ir.VectorType(I32, LANES), ir.VectorType(F32, LANES)
BYTES = ir.VectorType(I8, 4 * LANES)  # what a vector of int32 is seen as by `dot`


class Vector(types.Type):
    """The numba type of a vector."""

    def __init__(self, name, lanes):
        super().__init__(name=name)
        self.lanes = lanes  # its LLVM type


f32x16 = Vector("f32x16", VF32)
i32x16 = Vector("i32x16", VI32)


@register_default(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.lanes)


# Pieces of LLVM's language, for the intrinsics here and in gemm.py.


def call(builder, name, result, *arguments):
    """Call LLVM's own function of that name."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def data_pointer(context, builder, kind, array):
    return context.make_array(kind)(context, builder, array).data


def pointer(builder, base, index, kind):
    """The address of base[index], seen as `kind`."""
    return builder.bitcast(builder.gep(base, [index]), kind.as_pointer())


def spread(builder, value):
    """A vector with `value` in every lane."""
    undefined = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, value, I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(VI32, [I32(0)] * LANES))


def dot_product(builder, total, unsigned, signed):
    """total + the sum of each lane's four bytes of `unsigned` times those of `signed`."""
    unsigned, signed = builder.bitcast(unsigned, BYTES), builder.bitcast(signed, BYTES)
    if processor.kind.has_vnni:
        return call(builder, "llvm.x86.avx512.vpdpbusd.512", VI32, total, unsigned, signed)
    wide = ir.VectorType(I16, 4 * LANES)
    # No product leaves 16 bits: 255 * -128 is the largest.
    products = builder.mul(builder.zext(unsigned, wide), builder.sext(signed, wide))
    products = builder.sext(products, ir.VectorType(I32, 4 * LANES))
    while products.type.count > LANES:
        half = ir.VectorType(I32, products.type.count // 2)
        undefined = ir.Constant(products.type, ir.Undefined)
        even, odd = (
            builder.shuffle_vector(
                products,
                undefined,
                ir.Constant(half, [I32(i) for i in range(start, products.type.count, 2)]),
            )
            for start in (0, 1)
        )
        products = builder.add(even, odd)
    return builder.add(total, products)


def _fold(builder, vector, combine):
    """Combine the lanes in pairs, always the same ones."""
    undefined = ir.Constant(vector.type, ir.Undefined)
    for width in (8, 4, 2, 1):
        order = [I32((lane + width) % LANES) for lane in range(LANES)]
        turned = builder.shuffle_vector(vector, undefined, ir.Constant(VI32, order))
        vector = combine(vector, turned)
    return builder.extract_element(vector, I32(0))


# Arithmetic.


def _of_one(result, kind, emit):
    @intrinsic
    def operation(_typing, vector):
        if vector is not kind:
            return None
        return result(kind), lambda _context, builder, _signature, values: emit(builder, *values)

    return operation


def _of_two(kind, emit):
    @intrinsic
    def operation(_typing, left, right):
        if left is not kind or right is not kind:
            return None
        signature = kind(kind, kind)
        return signature, lambda _context, builder, _signature, values: emit(builder, *values)

    return operation


def _of_three(kind, other, emit):
    @intrinsic
    def operation(_typing, first, second, third):
        if first is not kind or second is not other or third is not other:
            return None
        signature = kind(kind, other, other)
        return signature, lambda _context, builder, _signature, values: emit(builder, *values)

    return operation


def _greater_f(builder, left, right):
    return builder.select(builder.fcmp_ordered(">", left, right), left, right)


def _greater_i(builder, left, right):
    return builder.select(builder.icmp_signed(">", left, right), left, right)


_OPERATORS = {
    operator.add: (ir.IRBuilder.fadd, ir.IRBuilder.add),
    operator.sub: (ir.IRBuilder.fsub, ir.IRBuilder.sub),
    operator.mul: (ir.IRBuilder.fmul, ir.IRBuilder.mul),
    operator.truediv: (ir.IRBuilder.fdiv, None),
    operator.and_: (None, ir.IRBuilder.and_),
    operator.lshift: (None, ir.IRBuilder.shl),
    operator.rshift: (None, ir.IRBuilder.lshr),
}


def _overload(symbol, emit_f, emit_i):
    on_f = emit_f and _of_two(f32x16, emit_f)
    on_i = emit_i and _of_two(i32x16, emit_i)

    @overload(symbol)
    def chosen(left, right):
        if on_f and left is f32x16 and right is f32x16:
            return lambda left, right: on_f(left, right)
        if on_i and left is i32x16 and right is i32x16:
            return lambda left, right: on_i(left, right)
        return None


for _symbol, (_emit_f, _emit_i) in _OPERATORS.items():
    _overload(_symbol, _emit_f, _emit_i)

# Where `right` is not a number, the first two return it: limits do not hide what is broken.
upper = _of_two(f32x16, _greater_f)
lower = _of_two(f32x16, lambda b, x, y: b.select(b.fcmp_ordered("<", x, y), x, y))
upper_i = _of_two(i32x16, _greater_i)
fma = _of_three(f32x16, f32x16, lambda b, x, y, z: call(b, "llvm.fma.v16f32", VF32, x, y, z))
dot = _of_three(i32x16, i32x16, dot_product)
to_float = _of_one(f32x16, i32x16, lambda b, v: b.sitofp(v, VF32))
bits = _of_one(i32x16, f32x16, lambda b, v: b.bitcast(v, VI32))
from_bits = _of_one(f32x16, i32x16, lambda b, v: b.bitcast(v, VF32))
total = _of_one(types.float32, f32x16, lambda b, v: _fold(b, v, b.fadd))
total_i = _of_one(types.int32, i32x16, lambda b, v: _fold(b, v, b.add))
largest = _of_one(types.float32, f32x16, lambda b, v: _fold(b, v, lambda x, y: _greater_f(b, x, y)))
largest_i = _of_one(types.int32, i32x16, lambda b, v: _fold(b, v, lambda x, y: _greater_i(b, x, y)))


# Memory. Arrays are one-dimensional and contiguous; nothing is checked.


def _align(array):
    return array.dtype.bitwidth // 8


@intrinsic
def load(_typing, array, index):
    """The 16 numbers of array[index:], or its 64 bytes as 16 int32."""
    result = f32x16 if array.dtype == types.float32 else i32x16

    def emit(context, builder, signature, values):
        base = data_pointer(context, builder, signature.args[0], values[0])
        return builder.load(pointer(builder, base, values[1], result.lanes), align=_align(array))

    return result(array, types.intp), emit


@intrinsic
def store(_typing, array, index, vector):
    """array[index:] = the 16 numbers, or the 64 bytes."""

    def emit(context, builder, signature, values):
        base = data_pointer(context, builder, signature.args[0], values[0])
        where = pointer(builder, base, values[1], vector.lanes)
        builder.store(values[2], where, align=_align(array))
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), emit


@intrinsic
def store_bytes(_typing, array, index, vector):
    """array[index:] = the lowest byte of each lane."""
    narrow = ir.VectorType(I8, LANES)

    def emit(context, builder, signature, values):
        base = data_pointer(context, builder, signature.args[0], values[0])
        builder.store(
            builder.trunc(values[2], narrow), pointer(builder, base, values[1], narrow), align=1
        )
        return context.get_dummy_value()

    return types.void(array, types.intp, i32x16), emit


@intrinsic
def quad(_typing, array, index):
    """The four bytes of array[index:] in every lane."""

    def emit(context, builder, signature, values):
        base = data_pointer(context, builder, signature.args[0], values[0])
        return spread(builder, builder.load(pointer(builder, base, values[1], I32), align=1))

    return i32x16(array, types.intp), emit


@intrinsic
def copy_quad(_typing, target, index, source, start):
    """target[index:][:4] = source[start:][:4], as bytes."""

    def emit(context, builder, signature, values):
        to = data_pointer(context, builder, signature.args[0], values[0])
        of = data_pointer(context, builder, signature.args[2], values[2])
        word = builder.load(pointer(builder, of, values[3], I32), align=1)
        builder.store(word, pointer(builder, to, values[1], I32), align=1)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), emit


@intrinsic
def splat(_typing, number):
    """A vector with the number in every lane."""
    result = f32x16 if isinstance(number, types.Float) else i32x16
    scalar = types.float32 if result is f32x16 else types.int32

    def emit(context, builder, _signature, values):
        return spread(builder, context.cast(builder, values[0], number, scalar))

    return result(number), emit


@intrinsic
def float_of_bits(_typing, number):
    """The float32 whose bits are this int32."""
    return types.float32(types.int32), lambda _c, b, _s, values: b.bitcast(values[0], F32)
