"""The model card and the loss plot of a training run, written from the facts that it measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REPORT_FILES = ("training.json", "MODEL_CARD.md", "loss.png")


def write_report(out: Path, facts: dict[str, Any]) -> None:
    """Write `training.json`, which is `facts`, the model card and the plot beside the model."""
    training, card, plot = (out / name for name in REPORT_FILES)
    training.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    # A file's name may hold bytes that are no text.
    card.write_text(_card(out.resolve().name, facts), encoding="utf-8", errors="replace")
    _plot(plot, facts["curve"])


def _card(name: str, facts: dict[str, Any]) -> str:
    text, recipe = facts["text"], facts["recipe"]
    shape = (
        f"{recipe['n_layer']} layers, {recipe['n_head']} heads, {recipe['n_embd']} wide, "
        f"context {recipe['block_size']} characters, vocabulary {facts['vocab_size']}"
    )
    steps = f"{recipe['steps']} of {recipe['batch']} x {recipe['block_size']} characters"
    if facts["written_step"] != recipe["steps"]:
        steps += f"; the weights are those after {facts['written_step']}, the best evaluation"
    again = ""
    if facts["minutes"] is not None:
        again = f"""
The time came to {recipe["steps"]} steps: with `--steps {recipe["steps"]}` in place of
`--minutes` the command gives this very model.
"""
    return f"""# Model card: {name}

A character-level GPT: {shape}; {facts["parameters"]:,} parameters, stored in bfloat16.

| | |
|---|---|
| Data | `{text["file"]}`, {text["characters"]:,} characters, SHA-256 `{text["sha256"]}` |
| Split | first {text["train_characters"]:,} characters trained on, last \
{text["held_out_characters"]:,} held out |
| Seed | {recipe["seed"]} |
| Steps | {steps} |
| Held-out loss | **{facts["held_out_loss_nats_per_character"]:.4f} nats per character**, \
over the whole held-out part in blocks of {recipe["block_size"]}, with the weights as stored |
| Time | {facts["seconds"] / 60:.0f} minutes, {facts["device"]}, torch {facts["torch"]} |

![Loss by characters seen](loss.png)

Made by:

    {facts["command"]}
{again}
The recipe in full, and the curve as numbers, are in `training.json`.

**What it is for.** Trying the service. It writes text in the manner of its data, one character
at a time; it knows nothing of the world, and what it writes is not fact.
"""


def _plot(path: Path, curve: list[dict[str, float]]) -> None:
    import matplotlib as mpl  # only training draws; serving never loads it

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    millions = [point["characters"] / 1e6 for point in curve]
    axes.plot(millions, [point["train"] for point in curve], label="train (one batch)", alpha=0.6)
    axes.plot(millions, [point["held_out"] for point in curve], label="held out (64 blocks)")
    axes.set_xlabel("characters seen, millions")
    axes.set_ylabel("loss, nats per character")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
