"""Train a character GPT on one text file; an interrupted run goes on from its last checkpoint.

The first 90 % of the text is trained on, the last 10 % is held out. Data order, initial weights
and dropout all come from the seed, so the same command on the same machine gives the same model.
The recipe: Muon for the matrices in the blocks, AdamW for the rest, a short warm-up, a flat half
and a linear descent.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from api.gpt import checkpoint
from api.gpt.model import GPT, GPTConfig
from api.gpt.muon import Muon
from api.gpt.tokenizer import CharTokenizer
from api.gpt.training_report import write_report


class TrainingError(Exception):
    """The training cannot start or go on; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the result, apart from the text itself."""

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

    def lr_scale(self, step: int) -> float:
        """Return the share of the peak learning rate at a step counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        flat_until = max(self.warmup_steps, int(self.flat_share * self.steps))
        if step < flat_until:
            return 1.0
        done = (step - flat_until) / max(1, self.steps - flat_until)
        return 1.0 + done * (self.final_share - 1.0)


class Batches:
    """Rows of block_size + 1 tokens; each epoch covers the text once, shifted and shuffled."""

    def __init__(self, tokens: Tensor, recipe: Recipe) -> None:
        self.tokens, self.recipe = tokens, recipe
        self.rows_per_epoch = (len(tokens) - 1) // recipe.block_size - 1
        if self.rows_per_epoch < 1:
            raise TrainingError(
                f"the text is too short: {len(tokens)} characters to train on, "
                f"at least {2 * recipe.block_size + 1} are needed for block_size "
                f"{recipe.block_size}"
            )

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets (batch, block_size) int64; a function of seed and step."""
        size = self.recipe.block_size
        rows = [self._start(step * self.recipe.batch + i) for i in range(self.recipe.batch)]
        window = torch.stack([self.tokens[s : s + size + 1] for s in rows])
        return window[:, :-1], window[:, 1:]

    def _start(self, index: int) -> int:
        epoch, row = divmod(index, self.rows_per_epoch)
        if getattr(self, "_epoch", None) != epoch:
            generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + epoch)
            self._epoch = epoch
            self._order = torch.randperm(self.rows_per_epoch, generator=generator).tolist()
            self._shift = int(torch.randint(self.recipe.block_size, (1,), generator=generator))
        return self._order[row] * self.recipe.block_size + self._shift


@torch.no_grad()
def held_out_loss(model: GPT, tokens: Tensor, block_size: int, rows: int | None = None) -> float:
    """Return nats per character over non-overlapping blocks: all of them, or `rows` spread out."""
    count = (len(tokens) - 1) // block_size
    starts = range(count) if rows is None or rows >= count else range(0, count, count // rows)
    model.eval()
    total, seen = 0.0, 0
    for batch in torch.tensor(list(starts)).split(32):
        window = torch.stack([tokens[s * block_size : (s + 1) * block_size + 1] for s in batch])
        logits = model(window[:, :-1].to(_device(model)))
        targets = window[:, 1:].reshape(-1).to(logits.device)
        total += F.cross_entropy(
            logits.float().view(len(targets), -1), targets, reduction="sum"
        ).item()
        seen += len(targets)
    model.train()
    return total / seen


def train(text_file: Path, out: Path, recipe: Recipe, *, resume: bool, command: str) -> float:
    """Train and write the model directory `out`; return the held-out loss in nats per character.

    Raises TrainingError for a text or a checkpoint that cannot be used.
    """
    text, digest = _read_text(text_file)
    tokenizer = CharTokenizer.from_text(text)
    tokens = torch.tensor(tokenizer.encode(text))
    split = int(len(tokens) * (1 - recipe.held_out_share))
    batches, held_out = Batches(tokens[:split], recipe), tokens[split:]
    if len(held_out) <= recipe.block_size:
        raise TrainingError(
            f"the text is too short: the held-out part has {len(held_out)} characters, "
            f"at least {recipe.block_size + 1} are needed"
        )

    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = GPT(
        GPTConfig(
            vocab_size=tokenizer.vocab_size,
            block_size=recipe.block_size,
            n_layer=recipe.n_layer,
            n_head=recipe.n_head,
            n_embd=recipe.n_embd,
            dropout=recipe.dropout,
        )
    ).to(device)
    optimizers = _optimizers(model, recipe)
    curve: list[dict[str, float]] = []
    first_step, seconds_before = 0, 0.0
    state_file = out / "training_state.pt"
    if resume and state_file.exists():
        state = torch.load(state_file, weights_only=True, map_location=device)
        if state["text_sha256"] != digest:
            raise TrainingError(f"{state_file} belongs to another text; use another --out")
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        torch.set_rng_state(state["rng"].cpu())
        first_step, curve = state["step"], state["curve"]
        seconds_before = state["seconds"]

    started = time.monotonic()
    bar = tqdm(range(first_step, recipe.steps), initial=first_step, total=recipe.steps, unit="step")
    autocast = _autocast(device)
    model.train()
    for step in bar:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * recipe.lr_scale(step)
        inputs, targets = batches.at(step)
        with autocast:
            logits = model(inputs.to(device))
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten().to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if not math.isfinite(loss.item()):
            raise TrainingError(f"the loss is {loss.item()} at step {step}; lower --matrix-lr")
        done = step + 1
        bar.set_postfix(loss=f"{loss.item():.3f}", **_last_held_out(curve))
        if done % recipe.eval_every == 0 or done == recipe.steps:
            curve.append(
                {
                    "step": done,
                    "characters": done * recipe.batch * recipe.block_size,
                    "train": loss.item(),
                    "held_out": held_out_loss(model, held_out, recipe.block_size, rows=64),
                }
            )
            bar.set_postfix(loss=f"{loss.item():.3f}", **_last_held_out(curve))
            _save_state(
                state_file,
                {
                    "text_sha256": digest,
                    "step": done,
                    "model": model.state_dict(),
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                    "rng": torch.get_rng_state(),
                    "curve": curve,
                    "seconds": seconds_before + time.monotonic() - started,
                },
            )

    seconds = seconds_before + time.monotonic() - started
    checkpoint.save(out, name=out.name, model=model.cpu(), tokenizer=tokenizer)
    # The number that is reported is that of the files as written, in bfloat16.
    saved = checkpoint.load(out)
    loss_nats = held_out_loss(saved.model, held_out, recipe.block_size)
    facts: dict[str, Any] = {
        "command": command,
        "text": {
            "file": text_file.name,
            "sha256": digest,
            "characters": len(tokens),
            "train_characters": split,
            "held_out_characters": len(held_out),
        },
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in saved.model.parameters()),
        "vocab_size": tokenizer.vocab_size,
        "held_out_loss_nats_per_character": round(loss_nats, 4),
        "seconds": round(seconds),
        "torch": torch.__version__,
        "device": device.type,
        "curve": curve,
    }
    (out / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
    write_report(out, facts)
    state_file.unlink(missing_ok=True)
    return loss_nats


def _read_text(text_file: Path) -> tuple[str, str]:
    try:
        data = text_file.read_bytes()
        return data.decode("utf-8"), hashlib.sha256(data).hexdigest()
    except OSError as exc:
        raise TrainingError(f"{text_file}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise TrainingError(
            f"{text_file}: not UTF-8 at byte {exc.start}; convert it first"
        ) from exc


def _optimizers(model: GPT, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=recipe.matrix_lr, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.other_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _autocast(device: torch.device) -> torch.autocast:
    """Use bfloat16 where the device has it in hardware; emulated, it is slower than float32."""
    native = device.type == "cuda" or _cpu_has_bfloat16()
    return torch.autocast(device.type, torch.bfloat16, enabled=native)


def _cpu_has_bfloat16() -> bool:
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # torch has no public name for it
    return bool(probe and probe())


def _device(model: GPT) -> torch.device:
    return model.token_embedding.weight.device


def _last_held_out(curve: list[dict[str, float]]) -> dict[str, str]:
    return {"held_out": f"{curve[-1]['held_out']:.3f}"} if curve else {}


def _save_state(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def with_overrides(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    """Return the recipe with the given fields replaced; those that are None stay."""
    return replace(recipe, **{k: v for k, v in overrides.items() if v is not None})
