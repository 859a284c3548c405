"""A model's hyper-parameters and the tensors that they call for: pure values, without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Activation = Literal["gelu", "gelu_tanh", "relu"]  # exact; its tanh approximation; max(0, x)
NORM_EPS = 1e-5  # of every layer norm

# Far beyond what this serves: what a file says is not to cost memory before its tensors are seen.
_MOST = {
    "vocab_size": 2**20,
    "block_size": 2**16,
    "n_layer": 1024,
    "n_head": 1024,
    "n_embd": 2**16,
    "n_hidden": 2**18,
}


@dataclass(frozen=True, slots=True)
class GPTConfig:
    """The hyper-parameters that decide every shape of the model, and its arithmetic."""

    vocab_size: int
    block_size: int = 256  # positions: the longest context, in tokens
    n_layer: int = 6
    n_head: int = 6
    n_embd: int = 384
    bias: bool = False  # in linears and layer norms
    dropout: float = 0.0  # on the two residual branches of a block; training only
    activation: Activation = "gelu"
    n_hidden: int | None = None  # width of the feed-forward; None: four times n_embd
    qkv_bias: bool | None = None  # in the QKV projection; None: as `bias`
    tied_head: bool = True  # the head's weights are the token embedding's
    head_bias: bool = False  # in the head; only with weights of its own

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name)
            if name == "n_hidden" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise ValueError(f"{name} must be an integer from 1 to {most}, not {value!r}")
        for name in ("bias", "tied_head", "head_bias", "qkv_bias"):
            value = getattr(self, name)
            if not isinstance(value, bool) and (name != "qkv_bias" or value is not None):
                raise ValueError(f"{name} must be true or false, not {value!r}")
        known = get_args(Activation)
        if self.activation not in known:
            raise ValueError(f"activation must be {' or '.join(known)}, not {self.activation!r}")
        if self.head_bias and self.tied_head:
            raise ValueError("head_bias needs tied_head to be false")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")
        number = isinstance(self.dropout, int | float) and not isinstance(self.dropout, bool)
        if not number or not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout!r}")

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head

    @property
    def hidden_size(self) -> int:
        return 4 * self.n_embd if self.n_hidden is None else self.n_hidden

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor of a checkpoint: the state of `model.GPT`."""
        C, H, bias = self.n_embd, self.hidden_size, self.bias
        qkv_bias = bias if self.qkv_bias is None else self.qkv_bias
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
            add(f"{block}.attn.qkv", 3 * C, C, bias=qkv_bias)
            add(f"{block}.attn.proj", C, C, bias=bias)
            add(f"{block}.ln_2", C, bias=bias)
            add(f"{block}.mlp.up", H, C, bias=bias)
            add(f"{block}.mlp.down", C, H, bias=bias)
        add("ln_f", C, bias=bias)
        if not self.tied_head:
            add("lm_head", self.vocab_size, C, bias=self.head_bias)
        return shapes
