"""The float32 arithmetic of the model's matrices when torch serves; how it keeps rows independent.

Plain `F.linear` picks its kernel by the number of rows, so a row's last bits would change with its
neighbours. Here weights are packed once by oneDNN, whose kernels sum in one order from 2 rows up.
`plain.PlainDecoder` proves the whole at start.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from api.gpt.model import GPT

# oneDNN's linear has no public name in torch.
_onednn = torch.ops.mkldnn


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


def converted(model: GPT) -> GPT:
    """Return the same model with every linear packed; what is not a linear is shared."""
    with torch.device("meta"):
        twin = GPT(model.config)
    twin.load_state_dict(model.state_dict(), assign=True)
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                bias = None if child.bias is None else child.bias.detach()
                setattr(module, name, Float32Linear(child.weight.detach(), bias))
    return twin.eval().requires_grad_(False)
