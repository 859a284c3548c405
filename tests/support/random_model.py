"""A model of any shape that was never trained, to hold one way of computing it to another."""

import torch

from api.gpt.model import GPT
from api.gpt.shape import GPTConfig


def random_model(config: GPTConfig) -> GPT:
    """Return the same model each time."""
    torch.manual_seed(3)
    model = GPT(config)
    for parameter in model.parameters():  # biases and norms too, so that a lost one shows
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval().requires_grad_(False)
