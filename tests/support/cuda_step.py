"""Mode `cuda` where there is no GPU: its step on the CPU, run as it is instead of recorded."""

import torch

from api.gpt.cuda import Step


def on_cpu(model, slots, dtype=torch.float32):
    device = torch.device("cpu")
    return Step(model, slots=slots, device=device, dtype=dtype, record=lambda work: work)


def linear_by_row(x, weight, bias=None):
    """A product that computes every row by itself, on whatever processor the tests run."""
    y = (x.unsqueeze(-2) * weight).sum(-1)
    return y if bias is None else y + bias
