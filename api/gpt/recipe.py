"""Everything that decides a trained model, apart from the text; a wrong value raises ValueError."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Recipe:
    """Shape, data order, regularisation and rates of one training run."""

    steps: int = 640
    batch: int = 32  # rows of block_size characters
    seed: int = 1337
    block_size: int = 256
    n_layer: int = 6
    n_head: int = 6
    n_embd: int = 384
    dropout: float = 0.1
    matrix_lr: float = 0.02
    other_lr: float = 3e-3
    weight_decay: float = 0.1
    warmup_steps: int = 50
    flat_share: float = 0.5  # of the steps before the descent
    final_share: float = 0.02  # of the peak rate, at the last step
    held_out_share: float = 0.1
    eval_every: int = 40

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    def lr_scale(self, step: int) -> float:
        """Return the share of the peak learning rate at a step counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        flat_until = max(self.warmup_steps, int(self.flat_share * self.steps))
        if step < flat_until:
            return 1.0
        done = (step - flat_until) / max(1, self.steps - flat_until)
        return 1.0 + done * (self.final_share - 1.0)


def with_overrides(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    """Return the recipe with the given fields replaced; those that are None stay."""
    return replace(recipe, **{k: v for k, v in overrides.items() if v is not None})
