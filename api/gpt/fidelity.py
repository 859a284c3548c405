"""What int8 costs a model: measured at every start, on a text of the model's own, without torch.

Activations with a few channels far larger than the rest lose the others' digits when a row is
rounded with one scale. So the model in int8 writes a short text, and what it expects at each place
is compared with what plain float32 arithmetic expects there. The divergence of the two, averaged,
is the loss that int8 adds over texts that the model thinks likely; its part of their own loss is
what is held to a limit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from api.gpt.checkpoint import Checkpoint
from api.gpt.compiled import CompiledDecoder
from api.gpt.decoder import Portion
from api.gpt.rowwise import P0, P1, P2, P3, P4, P5, P6, Q1, Q2, Q3, Q4
from api.gpt.sampling import Draw, sample
from api.gpt.shape import NORM_EPS, Activation, GPTConfig
from api.gpt.window import window_start

MOST_LOST = 0.005  # of a model's own loss
TOKENS = 64
# A model that is surer than this at every token is not refused int8 for a thousandth of a nat.
LEAST_LOSS = 0.2  # nats per token

Array = NDArray[np.float32]


def lost_in_int8(checkpoint: Checkpoint, decoder: CompiledDecoder) -> float:
    """Return how much larger the model's loss is in int8, as a share of it. Uses slot 0."""
    tokens, rounded = _written(checkpoint, decoder)
    exact = logits_of(checkpoint, tokens)[-len(rounded) :]
    p, q = _log_softmax(exact), _log_softmax(rounded)
    loss = -(np.exp(p) * p).sum(1).mean()
    added = (np.exp(p) * (p - q)).sum(1).mean()
    return float(added / max(loss, LEAST_LOSS))


def _written(checkpoint: Checkpoint, decoder: CompiledDecoder) -> tuple[list[int], Array]:
    """Continue the start text in int8; return all tokens read and the logits after the last ones.

    The logits of every token but those before the start text's last.
    """
    context = checkpoint.config.block_size
    tokens = checkpoint.tokenizer.encode(checkpoint.start_text)
    tokens = tokens[window_start(len(tokens), context) :]
    known = len(tokens)
    logits: list[Array] = []
    for position in range(min(context, known + TOKENS)):
        if position == len(tokens):
            draw = Draw(seed=0, position=position, temperature=1.0)
            tokens += sample(logits[-1][None], [draw])
        decoder.run([Portion(0, [tokens[position]], position, Draw(0, 0, 0.0))], {}, 1)
        logits.append(decoder.logits(1)[0])
    return tokens, np.array(logits[known - 1 :])


def logits_of(checkpoint: Checkpoint, tokens: list[int]) -> Array:
    """Return the logits after each token of a text (T, V), in float32 throughout."""
    config, weights = checkpoint.config, checkpoint.weights
    length, heads, size = len(tokens), config.n_head, config.head_size

    def linear(x: Array, name: str) -> Array:
        bias = f"{name}.bias"
        return x @ weights[f"{name}.weight"].T + weights.get(bias, 0)

    def norm(x: Array, name: str) -> Array:
        x = x - x.mean(1, keepdims=True)
        x = x / np.sqrt((x * x).mean(1, keepdims=True) + NORM_EPS)
        bias = f"{name}.bias"
        return x * weights[f"{name}.weight"] + weights.get(bias, 0)

    later = np.triu(np.full((length, length), -np.inf, np.float32), 1)
    x = weights["token_embedding.weight"][tokens] + weights["position_embedding.weight"][:length]
    for layer in range(config.n_layer):
        block = f"blocks.{layer}"
        qkv = linear(norm(x, f"{block}.ln_1"), f"{block}.attn.qkv")
        q, k, v = qkv.reshape(length, 3, heads, size).transpose(1, 2, 0, 3)
        scores = q @ k.transpose(0, 2, 1) / np.float32(np.sqrt(size)) + later
        shares = np.exp(scores - scores.max(2, keepdims=True))
        y = shares / shares.sum(2, keepdims=True) @ v
        x = x + linear(y.transpose(1, 0, 2).reshape(length, -1), f"{block}.attn.proj")
        up = linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.up")
        x = x + linear(_activate(up, config.activation), f"{block}.mlp.down")
    return linear(norm(x, "ln_f"), _head(config))


def _head(config: GPTConfig) -> str:
    return "token_embedding" if config.tied_head else "lm_head"


def _activate(x: Array, activation: Activation) -> Array:
    if activation == "relu":
        return np.maximum(x, 0)
    if activation == "gelu_tanh":
        inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)
        return x * (1 + np.tanh(inner)) / 2
    z = np.clip(x, -5, 5)
    s = z * z
    above = np.polyval((P6, P5, P4, P3, P2, P1, P0), s)
    below = np.polyval((Q4, Q3, Q2, Q1, np.float32(1)), s)
    return (x * (z * above / below + np.float32(0.5))).astype(np.float32)


def _log_softmax(logits: Array) -> NDArray[np.float64]:
    x = logits.astype(np.float64)
    x -= x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))
