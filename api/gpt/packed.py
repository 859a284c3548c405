"""A checkpoint's weights as the compiled kernels take them: int8 matrices in blocks, with one scale
for each output; the rest in float32.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from api.gpt.buffers import Shape, Weights
from api.gpt.gemm import pack
from api.gpt.rowwise import GELU, GELU_TANH, RELU
from api.gpt.shape import GPTConfig

HUGE_PAGE = 2 << 20  # bytes
ACTIVATIONS = {"gelu": GELU, "gelu_tanh": GELU_TANH, "relu": RELU}


def shape_of(config: GPTConfig) -> Shape:
    return Shape(
        layers=config.n_layer,
        heads=config.n_head,
        width=config.n_embd,
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        context=up_to(config.block_size, 16),
        activation=ACTIVATIONS[config.activation],
    )


def up_to(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def aligned(count: int, dtype: type[np.generic]) -> NDArray[np.generic]:
    """Return zeros whose first byte begins a cache line; large ones in huge pages if there are."""
    size = count * np.dtype(dtype).itemsize
    memory = mmap.mmap(-1, size + HUGE_PAGE)
    if size > HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(memory, np.uint8)
    start = -whole.ctypes.data % HUGE_PAGE
    return whole[start : start + size].view(dtype)


def weights_of(config: GPTConfig, tensors: Mapping[str, NDArray[np.float32]]) -> Weights:
    """Round and pack every matrix, one at a time."""
    blocks = [f"blocks.{layer}" for layer in range(config.n_layer)]
    names = [f"{b}.{m}" for b in blocks for m in ("attn.qkv", "attn.proj", "mlp.up", "mlp.down")]
    names.append("token_embedding" if config.tied_head else "lm_head")
    norms = [f"{b}.{n}" for b in blocks for n in ("ln_1", "ln_2")] + ["ln_f"]

    shapes = config.tensor_shapes()
    outputs = [up_to(shapes[f"{name}.weight"][0], 16) for name in names]
    sizes = [n * shapes[f"{name}.weight"][1] for n, name in zip(outputs, names, strict=True)]
    matrix_at, output_at = _starts(sizes), _starts(outputs)
    matrices = aligned(sum(sizes), np.uint8)
    scales, biases = np.zeros(sum(outputs), np.float32), np.zeros(sum(outputs), np.float32)
    for name, at, out in zip(names, matrix_at, output_at, strict=True):
        weight = tensors[f"{name}.weight"]
        scale = np.maximum(np.abs(weight).max(1) / 127, np.finfo(np.float32).tiny)
        packed = pack(np.rint(weight / scale[:, None]).astype(np.int8))
        matrices[at : at + len(packed)] = packed
        scales[out : out + len(scale)] = scale
        if f"{name}.bias" in shapes:
            biases[out : out + len(scale)] = tensors[f"{name}.bias"]
    none = np.zeros(config.n_embd, np.float32)
    return Weights(
        tokens=tensors["token_embedding.weight"].reshape(-1),
        positions=tensors["position_embedding.weight"].reshape(-1),
        gains=np.concatenate([tensors[f"{name}.weight"] for name in norms]),
        shifts=np.concatenate(
            [tensors[f"{name}.bias"] if f"{name}.bias" in shapes else none for name in norms]
        ),
        matrices=matrices,
        matrix_at=matrix_at,
        scales=scales,
        biases=biases,
        output_at=output_at,
    )


def _starts(sizes: list[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *sizes[:-1]], dtype=np.int64)
