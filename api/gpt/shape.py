"""A model's hyper-parameters and the tensors that they call for: pure values, without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GPTConfig:
    """The hyper-parameters that decide every shape of the model."""

    vocab_size: int
    block_size: int = 256  # positions: the longest context, in tokens
    n_layer: int = 6
    n_head: int = 6
    n_embd: int = 384
    bias: bool = False  # in linears and layer norms
    dropout: float = 0.0  # on the two residual branches of a block; training only

    def __post_init__(self) -> None:
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout!r}")

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor of a checkpoint: the state of `model.GPT`."""
        C, bias = self.n_embd, self.bias
        shapes: dict[str, tuple[int, ...]] = {
            "token_embedding.weight": (self.vocab_size, C),
            "position_embedding.weight": (self.block_size, C),
        }

        def add(name: str, *shape: int, bias: bool) -> None:
            shapes[f"{name}.weight"] = shape
            if bias:
                shapes[f"{name}.bias"] = shape[:1]

        for layer in range(self.n_layer):
            block = f"blocks.{layer}"
            add(f"{block}.ln_1", C, bias=bias)
            add(f"{block}.attn.qkv", 3 * C, C, bias=bias)
            add(f"{block}.attn.proj", C, C, bias=bias)
            add(f"{block}.ln_2", C, bias=bias)
            add(f"{block}.mlp.up", 4 * C, C, bias=bias)
            add(f"{block}.mlp.down", C, 4 * C, bias=bias)
        add("ln_f", C, bias=bias)
        return shapes
