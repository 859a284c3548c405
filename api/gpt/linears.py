"""The arithmetic of the model's matrices when it serves; how a mode keeps rows independent.

Plain `F.linear` picks its kernel by the number of rows, so a row's last bits would change with its
neighbours. Each mode here computes a row from that row alone:

- `int8`: weights with one scale per output, activations with one scale per row, sums in int32.
  Integer sums are exact, so neither order, nor threads, nor the number of rows can show.
- `fp32`: weights packed once by oneDNN, whose kernels sum in one order from 2 rows up.

`usable` says what this processor computes exactly; `decoder.Decoder` proves the whole at start.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from api.gpt.model import GPT
from api.gpt.request import GenerationMode

# What these do has no public name in torch: an int8 product with int32 sums, and oneDNN's linear.
_int8_product = torch._int_mm  # noqa: SLF001
_onednn = torch.ops.mkldnn


class Int8Linear(nn.Module):
    """y = x W^T + b with x (..., K) and W (N, K) rounded to int8, one scale for each row."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        tiny = torch.finfo(torch.float32).tiny
        scale = (weight.abs().amax(1) / 127).clamp_min(tiny)
        # Stored (N, K) and seen transposed: the layout that the kernel reads without a copy.
        self.weight = (weight / scale[:, None]).round().to(torch.int8).t()
        self.scale, self.bias, self.tiny = scale, bias, tiny

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        scale = (rows.abs().amax(1, keepdim=True) / 127).clamp_min(self.tiny)
        sums = _int8_product((rows / scale).round_().to(torch.int8), self.weight)
        y = (sums * scale).mul_(self.scale)
        if self.bias is not None:
            y += self.bias
        return y.view(*x.shape[:-1], -1)


class Float32Linear(nn.Module):
    """y = x W^T + b in float32, in the same order whatever the number of rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        self.packed: Tensor | None = None
        if torch.backends.mkldnn.is_available():
            self.packed = _onednn._reorder_linear_weight(weight.contiguous())  # noqa: SLF001  # as above

    def forward(self, x: Tensor) -> Tensor:
        if self.packed is None:
            return F.linear(x, self.weight, self.bias)
        rows = x.reshape(-1, x.shape[-1])
        count = len(rows)
        if count == 1:  # a single row has a kernel of its own, with other last bits
            rows = F.pad(rows, (0, 0, 0, 1))
        y = _onednn._linear_pointwise(rows, self.packed, self.bias, "none", [], "")  # noqa: SLF001  # as above
        return y[:count].view(*x.shape[:-1], -1)


_LINEARS: dict[GenerationMode, type[Int8Linear | Float32Linear]] = {
    GenerationMode.INT8: Int8Linear,
    GenerationMode.FP32: Float32Linear,
}


def linear(mode: GenerationMode, weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    """Return a module that multiplies by `weight` (N, K) in this mode's arithmetic."""
    return _LINEARS[mode](weight.detach(), None if bias is None else bias.detach())


def converted(model: GPT, mode: GenerationMode) -> GPT:
    """Return the same model with every linear in this mode; what is not a linear is shared."""
    with torch.device("meta"):
        twin = GPT(model.config)
    twin.load_state_dict(model.state_dict(), assign=True)
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, linear(mode, child.weight, child.bias))
    return twin.eval().requires_grad_(False)


def choose(setting: GenerationMode) -> GenerationMode:
    """Return the mode that runs: the one asked for, or with `auto` the fastest that is exact here.

    Raises ValueError when the one asked for cannot be had on this processor.
    """
    exact = int8_is_exact()
    if setting is GenerationMode.AUTO:
        return GenerationMode.INT8 if exact else GenerationMode.FP32
    if setting is GenerationMode.INT8 and not exact:
        raise ValueError("GENERATION_MODE int8: this processor's int8 products are not exact")
    return setting


def int8_is_exact() -> bool:
    """Say whether int8 products are summed without saturation here.

    Without VNNI instructions some kernels add pairs of products in 16 bits; the extremes show it.
    """
    k = 256
    x = torch.full((4, k), 127, dtype=torch.int8)
    x[1::2] = -127
    weight = torch.full((64, k), 127, dtype=torch.int8)
    weight[1::2] = -127
    try:
        sums = _int8_product(x, weight.t())
    except RuntimeError:
        return False
    return torch.equal(sums.long(), x.long() @ weight.long().t())
