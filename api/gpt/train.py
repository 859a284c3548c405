"""Train a character GPT on one text file; an interrupted run goes on from its last checkpoint.

The first 90 % of the text is trained on, the last 10 % is held out. Data order, initial weights
and dropout all come from the seed, so the same command on the same machine gives the same model,
cut and resumed or not. The weights that are written are those of the best evaluation.
The recipe: Muon for the matrices in the blocks, AdamW for the rest, a short warm-up, a flat half
and a linear descent. With a time budget the flat half lasts half of it, and then as many steps
again descend: the model is that of a run with so many steps from the start.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from api.gpt import checkpoint
from api.gpt.corpus import Batches, Corpus, TrainingError, held_out_loss
from api.gpt.model import GPT
from api.gpt.muon import Muon
from api.gpt.recipe import Recipe
from api.gpt.shape import GPTConfig
from api.gpt.shown import shown
from api.gpt.training_report import REPORT_FILES, write_report

UNDECIDED = 10**9  # steps of a run whose time decides them, as long as it has not
STATE_FILE = "training_state.pt"  # in the model directory while the run is unfinished


def train(
    text_file: Path,
    out: Path,
    recipe: Recipe,
    *,
    resume: bool,
    command: str,
    minutes: float | None = None,  # None: recipe.steps
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Train and write the model directory `out`; return the held-out loss in nats per character.

    Raises TrainingError for a text, a checkpoint or a directory that cannot be used.
    """
    name = out.resolve().name
    if problem := checkpoint.name_problem(name):
        raise TrainingError(f"--out: the name of its directory, {shown(name)!r}, {problem}")
    state_file = out / STATE_FILE
    # The state goes last: a model beside it still lacks its report, and resuming writes both.
    if not state_file.exists():
        _refuse_to_replace(out)
    elif not resume:
        raise TrainingError(
            f"{out} holds an unfinished run; add --resume to go on with it, or remove it"
        )
    corpus = Corpus.read(text_file, recipe)
    trainer = Trainer(corpus, recipe, clock, minutes)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise TrainingError(f"{out}: {exc.strerror or exc}") from exc
    if state_file.exists():
        trainer.restore(state_file)
    trainer.run(state_file)
    checkpoint.save(out, name=name, model=trainer.model.cpu(), tokenizer=corpus.tokenizer)
    # The number that is reported is that of the files as written, in bfloat16.
    saved = checkpoint.load(out)
    loss = held_out_loss(saved.model, corpus.held_out, recipe.block_size)
    facts: dict[str, Any] = {
        "command": command,
        "text": corpus.facts(),
        "recipe": asdict(trainer.recipe),
        "minutes": minutes,
        "written_step": trainer.best_step,
        "parameters": sum(p.numel() for p in saved.model.parameters()),
        "vocab_size": corpus.tokenizer.vocab_size,
        "held_out_loss_nats_per_character": round(loss, 4),
        "seconds": round(trainer.seconds()),
        "torch": torch.__version__,
        "device": trainer.device.type,
        "curve": trainer.curve,
    }
    write_report(out, facts)
    state_file.unlink(missing_ok=True)
    return loss


def _refuse_to_replace(out: Path) -> None:
    if (out / "manifest.json").exists():
        raise TrainingError(f"{out} holds a finished model; use another --out, or remove it")
    if taken := checkpoint.first_of(out, (*checkpoint.WRITTEN, *REPORT_FILES)):
        raise TrainingError(f"{out} holds a {taken} of something else; use another --out")


class Trainer:
    """One run: the model, its optimizers, and how far they have come."""

    def __init__(
        self,
        corpus: Corpus,
        recipe: Recipe,
        clock: Callable[[], float],
        minutes: float | None = None,
    ) -> None:
        self.corpus, self._asked, self._clock, self.minutes = corpus, recipe, clock, minutes
        self.recipe = recipe if minutes is None else replace(recipe, steps=UNDECIDED)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(recipe.seed)
        config = GPTConfig(
            vocab_size=corpus.tokenizer.vocab_size,
            block_size=recipe.block_size,
            n_layer=recipe.n_layer,
            n_head=recipe.n_head,
            n_embd=recipe.n_embd,
            dropout=recipe.dropout,
        )
        self.model = GPT(config).to(self.device)
        self.curve: list[dict[str, float]] = []  # one point for each evaluation
        self._best = self._weights()
        self._optimizers = _optimizers(self.model, recipe)
        self._batches = Batches(corpus.train, recipe)
        self._autocast = _autocast(self.device)
        self._first_step = 0
        self._started, self._seconds_before = clock(), 0.0

    @property
    def best_step(self) -> int:
        """The steps after which the held-out loss was lowest."""
        return int(min(self.curve, key=lambda point: point["held_out"])["step"])

    def run(self, state_file: Path) -> None:
        """Take the steps that are left, saving the state at every evaluation."""
        done = self._first_step
        with tqdm(initial=done, total=self._expected_steps(done), unit="step") as bar:
            self.model.train()
            while done < self.recipe.steps:
                loss = self._step(done)
                if not math.isfinite(loss):
                    raise TrainingError(f"the loss is {loss} at step {done}; lower --matrix-lr")
                done += 1
                self._decide_steps(done)
                if done % self.recipe.eval_every == 0 or done == self.recipe.steps:
                    self._evaluate(done, loss)
                    self._save(state_file, done)
                bar.total = self._expected_steps(done)
                bar.set_postfix(loss=f"{loss:.3f}", **_last_held_out(self.curve), refresh=False)
                bar.update()
        self.model.load_state_dict(self._best)

    def _decide_steps(self, done: int) -> None:
        """End the flat part of a run by the clock: from here as long as the recipe's shares say."""
        if self.minutes is None or self.recipe.steps != UNDECIDED:
            return
        if self.seconds() >= self.recipe.flat_share * self.minutes * 60:
            steps = round(done / self.recipe.flat_share)
            self.recipe = replace(self.recipe, steps=max(done, steps))

    def _expected_steps(self, done: int) -> int | None:
        if self.minutes is None or self.recipe.steps != UNDECIDED:
            return self.recipe.steps
        return round(done * self.minutes * 60 / self.seconds()) if done else None

    def seconds(self) -> float:
        """Return how long the run has taken, earlier parts of it included."""
        return self._seconds_before + self._clock() - self._started

    def restore(self, state_file: Path) -> None:
        """Go on from a saved state. Raise TrainingError if it is not of this text and recipe."""
        try:
            state = torch.load(state_file, weights_only=True, map_location=self.device)
            if state["text_sha256"] != self.corpus.sha256:
                raise TrainingError(f"{state_file} belongs to another text; use another --out")
            if (state["recipe"], state["minutes"]) != (asdict(self._asked), self.minutes):
                raise TrainingError(f"{state_file} belongs to another recipe; use another --out")
            self.model.load_state_dict(state["model"])
            for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            torch.set_rng_state(state["rng"].cpu())
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda_rng"].cpu())
        except TrainingError:
            raise
        except Exception as exc:  # whatever a damaged file makes torch raise
            raise TrainingError(f"{state_file} is damaged; remove it to begin anew") from exc
        self.recipe = replace(self.recipe, steps=state["steps"])
        self._first_step, self.curve, self._best = state["step"], state["curve"], state["best"]
        self._seconds_before = state["seconds"]

    def _step(self, step: int) -> float:
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * self.recipe.lr_scale(step)
        inputs, targets = self._batches.at(step)
        with self._autocast:
            logits = self.model(inputs.to(self.device))
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten().to(self.device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def _evaluate(self, done: int, loss: float) -> None:
        self.curve.append(
            {
                "step": done,
                "characters": done * self.recipe.batch * self.recipe.block_size,
                "train": loss,
                "held_out": held_out_loss(
                    self.model, self.corpus.held_out, self.recipe.block_size, rows=64
                ),
            }
        )
        if self.best_step == done:
            self._best = self._weights()

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def _save(self, path: Path, done: int) -> None:
        state = {
            "text_sha256": self.corpus.sha256,
            "recipe": asdict(self._asked),
            "minutes": self.minutes,
            "steps": self.recipe.steps,
            "step": done,
            "best": self._best,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "rng": torch.get_rng_state(),
            "curve": self.curve,
            "seconds": self.seconds(),
        }
        if self.device.type == "cuda":  # dropout draws there
            state["cuda_rng"] = torch.cuda.get_rng_state()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)


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
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = _cpu_has_bfloat16()
    return torch.autocast(device.type, torch.bfloat16, enabled=native)


def _cpu_has_bfloat16() -> bool:
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # torch has no public name for it
    return bool(probe and probe())


def _last_held_out(curve: list[dict[str, float]]) -> dict[str, str]:
    return {"held_out": f"{curve[-1]['held_out']:.3f}"} if curve else {}
