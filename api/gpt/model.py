"""The GPT: token ids in, logits out; the one definition that training, import and serving share.

A pre-norm decoder-only transformer in the shape of GPT-2 (Radford et al. 2019), as nanoGPT
restates it: learned positions, one fused QKV projection, a feed-forward, an output head that is
tied to the token embedding or has weights of its own. What varies between checkpoints is in
`GPTConfig`; its defaults are what `train` makes.

Shapes: B rows, T positions, C width (`n_embd`), H heads, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from api.gpt.shape import NORM_EPS, Activation, GPTConfig


class AttentionCache(Protocol):
    """Where attention keeps keys and values between steps (`kv_cache.KVCache`)."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store k and v (B, H, T, D) of this step, return the attention output (B, H, T, D)."""


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a position sees itself and what is before it."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_head = config.n_head
        qkv_bias = config.bias if config.qkv_bias is None else config.qkv_bias
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=qkv_bias)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor, cache: AttentionCache | None) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)  # (B, H, T, D)
            for part in self.qkv(x).split(C, dim=2)
        )
        if cache is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = cache.attend(self.layer, q, k, v)
        return self.proj(y.transpose(1, 2).reshape(B, T, C))


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Apply the non-linearity of the feed-forward."""
    if activation == "relu":
        return F.relu(x)
    return F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


class FeedForward(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.up = nn.Linear(config.n_embd, config.hidden_size, bias=config.bias)
        self.down = nn.Linear(config.hidden_size, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(activate(self.up(x), self.activation))


class Block(nn.Module):
    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, NORM_EPS, bias=config.bias)
        self.attn = CausalSelfAttention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, NORM_EPS, bias=config.bias)
        self.mlp = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: AttentionCache | None) -> Tensor:
        x = x + self.dropout(self.attn(self.ln_1(x), cache))
        return x + self.dropout(self.mlp(self.ln_2(x)))


class GPT(nn.Module):
    """Token ids (B, T) in, logits (B, T, V) out."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, NORM_EPS, bias=config.bias)
        self.lm_head: nn.Linear | None = None
        if not config.tied_head:
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=config.head_bias)
        self.apply(self._initialise)
        # Each block adds two branches to the residual stream; scaled so that its variance at
        # the output does not grow with depth (GPT-2, section 2.3).
        for name, parameter in self.named_parameters():
            if name.endswith(("attn.proj.weight", "mlp.down.weight")):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.n_layer))

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def features(
        self, tokens: Tensor, positions: Tensor | None = None, cache: AttentionCache | None = None
    ) -> Tensor:
        """Run the blocks. tokens (B, T) int64, positions (T,) or (B, T) int64 -> (B, T, C)."""
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        for block in self.blocks:
            x = block(x, cache)
        return self.ln_f(x)

    def head_parameters(self) -> tuple[Tensor, Tensor | None]:
        """Return the weight (V, C) and the bias (V,) that turn features into logits."""
        if self.lm_head is None:
            return self.token_embedding.weight, None
        return self.lm_head.weight, self.lm_head.bias

    def head(self, features: Tensor) -> Tensor:
        """Project features (..., C) on the vocabulary: logits (..., V)."""
        return F.linear(features, *self.head_parameters())

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.features(tokens))
