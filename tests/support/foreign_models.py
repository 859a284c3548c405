"""Models as others save them, with random weights, and their forward passes restated plainly."""

import math
import pickle
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.3


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Softmax of the scaled products of what is not later. q, k, v (T, D)."""
    scores = (q @ k.T) * scale
    later = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(later, -math.inf).softmax(-1) @ v


# nanoGPT


def nanogpt_state(
    *, V: int, T: int, L: int, C: int, bias: bool, tied: bool = True, seed: int = 1
) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (V, C), "wpe.weight": (T, C)}
    for i in range(L):
        for name, shape in {
            "ln_1": (C,),
            "attn.c_attn": (3 * C, C),
            "attn.c_proj": (C, C),
            "ln_2": (C,),
            "mlp.c_fc": (4 * C, C),
            "mlp.c_proj": (C, 4 * C),
        }.items():
            shapes[f"h.{i}.{name}.weight"] = shape
            if bias:
                shapes[f"h.{i}.{name}.bias"] = shape[:1]
    shapes["ln_f.weight"] = (C,)
    if bias:
        shapes["ln_f.bias"] = (C,)
    state = {
        f"transformer.{name}": numbers(*shape, seed=seed + n)
        for n, (name, shape) in enumerate(shapes.items())
    }
    head = state["transformer.wte.weight"]
    state["lm_head.weight"] = head if tied else numbers(V, C, seed=seed + 999)
    return state


def nanogpt_logits(
    state: dict[str, Tensor], n_head: int, tokens: list[int], gelu: str = "none"
) -> Tensor:
    """Return logits (T, V)."""

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name: str, x: Tensor) -> Tensor:
        weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
        return F.layer_norm(x, weight.shape, weight, bias, 1e-5)

    x = state["transformer.wte.weight"][tokens]
    x = x + state["transformer.wpe.weight"][: len(tokens)]
    layer = 0
    while f"transformer.h.{layer}.ln_1.weight" in state:
        block = f"transformer.h.{layer}"
        q, k, v = linear(f"{block}.attn.c_attn", norm(f"{block}.ln_1", x)).chunk(3, dim=-1)
        size = q.shape[-1] // n_head
        heads = [
            attention(a, b, c, size**-0.5)
            for a, b, c in zip(q.split(size, -1), k.split(size, -1), v.split(size, -1), strict=True)
        ]
        x = x + linear(f"{block}.attn.c_proj", torch.cat(heads, -1))
        hidden = F.gelu(linear(f"{block}.mlp.c_fc", norm(f"{block}.ln_2", x)), approximate=gelu)
        x = x + linear(f"{block}.mlp.c_proj", hidden)
        layer += 1
    return norm("transformer.ln_f", x) @ state["lm_head.weight"].T


def nanogpt_checkpoint(
    state: dict[str, Tensor], *, n_head: int, prefix: str = "", **config: Any
) -> dict[str, Any]:
    """Return what nanoGPT's train.py hands to torch.save."""
    wte, wpe = state["transformer.wte.weight"], state["transformer.wpe.weight"]
    layers = sum(name.endswith("ln_1.weight") for name in state)
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones(3)
    optimizer.step()
    return {
        "model": {f"{prefix}{name}": tensor for name, tensor in state.items()},
        "optimizer": optimizer.state_dict(),
        "model_args": {
            "n_layer": layers,
            "n_head": n_head,
            "n_embd": wte.shape[1],
            "block_size": wpe.shape[0],
            "bias": "transformer.ln_f.bias" in state,
            "vocab_size": wte.shape[0],
            "dropout": 0.2,
        },
        "iter_num": 5000,
        "best_val_loss": torch.tensor(1.47),
        "config": {"dataset": "shakespeare_char", "learning_rate": 1e-3, "compile": True, **config},
    }


def nanogpt_meta(chars: str) -> bytes:
    """Return the meta.pkl of nanoGPT's prepare.py."""
    return pickle.dumps(
        {
            "vocab_size": len(chars),
            "itos": dict(enumerate(chars)),
            "stoi": {c: i for i, c in enumerate(chars)},
        }
    )


# The lecture's GPTLanguageModel


def lecture_state(
    *, V: int, T: int, L: int, H: int, C: int, seed: int = 1, masks: bool = True
) -> dict[str, Tensor]:
    size = C // H
    shapes: dict[str, tuple[int, ...]] = {
        "token_embedding_table.weight": (V, C),
        "position_embedding_table.weight": (T, C),
    }
    for i in range(L):
        for h in range(H):
            for name in ("key", "query", "value"):
                shapes[f"blocks.{i}.sa.heads.{h}.{name}.weight"] = (size, C)
        for name, shape in {
            "sa.proj": (C, size * H),
            "ffwd.net.0": (4 * C, C),
            "ffwd.net.2": (C, 4 * C),
            "ln1": (C,),
            "ln2": (C,),
        }.items():
            shapes[f"blocks.{i}.{name}.weight"] = shape
            shapes[f"blocks.{i}.{name}.bias"] = shape[:1]
    shapes |= {"ln_f.weight": (C,), "ln_f.bias": (C,)}
    shapes |= {"lm_head.weight": (V, C), "lm_head.bias": (V,)}
    state = {name: numbers(*shape, seed=seed + n) for n, (name, shape) in enumerate(shapes.items())}
    if masks:
        for i in range(L):
            for h in range(H):
                state[f"blocks.{i}.sa.heads.{h}.tril"] = torch.ones(T, T).tril()
    return state


def lecture_logits(
    state: dict[str, Tensor], tokens: list[int], *, scaled_by_width: bool = False
) -> Tensor:
    """Return logits (T, V)."""

    def linear(name: str, x: Tensor) -> Tensor:
        y = x @ state[f"{name}.weight"].T
        return y + state[f"{name}.bias"] if f"{name}.bias" in state else y

    def norm(name: str, x: Tensor) -> Tensor:
        scaled = (x - x.mean(-1, keepdim=True)) / (
            x.var(-1, correction=0, keepdim=True) + 1e-5
        ) ** 0.5
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    x = state["token_embedding_table.weight"][tokens]
    x = x + state["position_embedding_table.weight"][: len(tokens)]
    layer = 0
    while f"blocks.{layer}.ln1.weight" in state:
        block, heads, head = f"blocks.{layer}", [], 0
        y = norm(f"{block}.ln1", x)
        while f"{block}.sa.heads.{head}.query.weight" in state:
            q, k, v = (
                linear(f"{block}.sa.heads.{head}.{name}", y) for name in ("query", "key", "value")
            )
            heads.append(attention(q, k, v, (x if scaled_by_width else q).shape[-1] ** -0.5))
            head += 1
        x = x + linear(f"{block}.sa.proj", torch.cat(heads, -1))
        hidden = linear(f"{block}.ffwd.net.0", norm(f"{block}.ln2", x)).clamp_min(0)
        x = x + linear(f"{block}.ffwd.net.2", hidden)
        layer += 1
    return linear("lm_head", norm("ln_f", x))
