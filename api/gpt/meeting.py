"""How threads meet within compiled code, and the words that they share.

Who waits spins shortly and then gives way; nothing here takes a lock or the GIL.
"""

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from api.gpt.buffers import ARRIVED, BROKEN, ROUND_NUMBER
from api.gpt.simd import I64, data_pointer

SPINS = 2000


@intrinsic
def peek(_typing, words, index):
    def emit(context, builder, signature, values):
        word = builder.gep(
            data_pointer(context, builder, signature.args[0], values[0]), [values[1]]
        )
        return builder.load_atomic(word, "seq_cst", 8)

    return types.int64(words, types.intp), emit


@intrinsic
def poke(_typing, words, index, value):
    def emit(context, builder, signature, values):
        word = builder.gep(
            data_pointer(context, builder, signature.args[0], values[0]), [values[1]]
        )
        builder.store_atomic(values[2], word, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(words, types.intp, types.int64), emit


@intrinsic
def _count_up(_typing, words, index):
    """Add 1; return what it was."""

    def emit(context, builder, signature, values):
        word = builder.gep(
            data_pointer(context, builder, signature.args[0], values[0]), [values[1]]
        )
        return builder.atomic_rmw("add", word, ir.Constant(I64, 1), "seq_cst")

    return types.int64(words, types.intp), emit


_give_way = types.ExternalFunction("sched_yield", types.int32())


@njit(nogil=True, error_model="numpy")
def meet(shared, threads):
    """Return when every thread is here, or one is known never to come (BROKEN)."""
    if threads == 1 or peek(shared, BROKEN) != 0:
        return
    number = peek(shared, ROUND_NUMBER)
    if _count_up(shared, ARRIVED) + 1 == threads:
        poke(shared, ARRIVED, 0)
        poke(shared, ROUND_NUMBER, number + 1)
        return
    spins = 0
    while peek(shared, ROUND_NUMBER) == number and peek(shared, BROKEN) == 0:
        spins += 1
        if spins > SPINS:
            _give_way()
