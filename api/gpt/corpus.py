"""A text file as training data: its first part to learn from, its last part held out.

A file that cannot be read, is not UTF-8 or is too short for the context raises `TrainingError`
with one line that says what to change.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from api.gpt.model import GPT
from api.gpt.recipe import Recipe
from api.gpt.tokenizer import CharTokenizer

LOGITS_AT_ONCE = 2**26  # of an evaluation: a quarter of a GiB


class TrainingError(Exception):
    """The training cannot start or go on; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """One text, encoded and split."""

    file: str
    sha256: str
    tokenizer: CharTokenizer
    train: Tensor  # (N,) int64
    held_out: Tensor  # (M,) int64

    @classmethod
    def read(cls, text_file: Path, recipe: Recipe) -> Corpus:
        """Read and split a text. Raise TrainingError if it cannot be trained on."""
        data, text = read_text(text_file)
        size, split = recipe.block_size, split_at(text, recipe.held_out_share)
        if split < 2 * size + 1:
            raise TrainingError(
                f"the text is too short: {split} characters to train on, "
                f"at least {2 * size + 1} are needed, or a smaller --block-size than {size}"
            )
        if len(text) - split <= size:
            raise TrainingError(
                f"the text is too short: the held-out part has {len(text) - split} characters, "
                f"at least {size + 1} are needed, or a smaller --block-size than {size}"
            )
        tokenizer = CharTokenizer.from_text(text)
        tokens = torch.tensor(tokenizer.encode(text))
        digest = hashlib.sha256(data).hexdigest()
        return cls(text_file.name, digest, tokenizer, tokens[:split], tokens[split:])

    def facts(self) -> dict[str, str | int]:
        """Return what the model card says about the data."""
        return {
            "file": self.file,
            "sha256": self.sha256,
            "characters": len(self.train) + len(self.held_out),
            "train_characters": len(self.train),
            "held_out_characters": len(self.held_out),
        }


def read_text(path: Path) -> tuple[bytes, str]:
    """Return a file's bytes and its text, without a byte order mark. Raise TrainingError."""
    try:
        data = path.read_bytes()
        return data, data.decode("utf-8-sig")
    except OSError as exc:
        raise TrainingError(f"{path}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise TrainingError(f"{path}: not UTF-8 at byte {exc.start}; convert it first") from exc


def split_at(text: str, held_out_share: float) -> int:
    """Return where the held-out part of a text begins."""
    return int(len(text) * (1 - held_out_share))


class Batches:
    """Rows of block_size + 1 tokens; each epoch covers the text once, shifted and shuffled."""

    def __init__(self, tokens: Tensor, recipe: Recipe) -> None:
        self.tokens, self.recipe = tokens, recipe
        self.rows_per_epoch = (len(tokens) - 1) // recipe.block_size - 1

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets (batch, block_size) int64; a function of seed and step."""
        size = self.recipe.block_size
        rows = [self._start(step * self.recipe.batch + i) for i in range(self.recipe.batch)]
        window = torch.stack([self.tokens[s : s + size + 1] for s in rows])
        return window[:, :-1], window[:, 1:]

    def _start(self, index: int) -> int:
        epoch, row = divmod(index, self.rows_per_epoch)
        if getattr(self, "_epoch", None) != epoch:
            seed = (self.recipe.seed * 1_000_003 + epoch) % 2**63  # the range that torch takes
            generator = torch.Generator().manual_seed(seed)
            self._epoch = epoch
            self._order = torch.randperm(self.rows_per_epoch, generator=generator).tolist()
            self._shift = int(torch.randint(self.recipe.block_size, (1,), generator=generator))
        return self._order[row] * self.recipe.block_size + self._shift


@torch.no_grad()
def held_out_loss(model: GPT, tokens: Tensor, block_size: int, rows: int | None = None) -> float:
    """Return nats per token over non-overlapping blocks: all of them, or `rows` spread out."""
    count = (len(tokens) - 1) // block_size
    starts = range(count) if rows is None or rows >= count else range(0, count, count // rows)
    device = model.token_embedding.weight.device
    model.eval()
    total, seen = 0.0, 0
    at_once = max(1, min(32, LOGITS_AT_ONCE // (block_size * model.config.vocab_size)))
    for batch in torch.tensor(list(starts)).split(at_once):
        window = torch.stack([tokens[s * block_size : (s + 1) * block_size + 1] for s in batch])
        logits = model(window[:, :-1].to(device)).float()
        targets = window[:, 1:].reshape(-1).to(device)
        total += F.cross_entropy(logits.view(len(targets), -1), targets, reduction="sum").item()
        seen += len(targets)
    model.train()
    return total / seen
