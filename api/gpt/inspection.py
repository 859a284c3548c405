"""What a model directory holds, for a person to read, and how well it predicts a text.

A text that cannot be read, is too short, or has characters without a token raises `TrainingError`
or `NotEncodableError` with one line.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from api.gpt.bpe import BpeTokenizer
from api.gpt.checkpoint import FILES, Checkpoint
from api.gpt.corpus import TrainingError, held_out_loss, read_text, split_at
from api.gpt.recipe import Recipe
from api.gpt.shown import shown
from api.gpt.tokenizer import CharTokenizer

_LAYER = re.compile(r"^blocks\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The loss over a text's held-out part: its last tenth, in blocks of a whole context."""

    nats_per_character: float
    blocks: int
    characters: int  # predicted


def describe(loaded: Checkpoint, directory: Path) -> Iterator[tuple[str, str]]:
    """Yield each fact's name and value; the hashes are those of the manifest, or `load` failed."""
    config = loaded.config
    yield "name", loaded.name
    yield "shape", f"{config.n_layer} layers, {config.n_head} heads, {config.n_embd} wide"
    yield "feed-forward", f"{config.hidden_size} wide, {config.activation}"
    yield "context", f"{config.block_size} tokens"
    yield "vocabulary", _vocabulary(loaded)
    yield "parameters", f"{sum(_size(shape) for shape in config.tensor_shapes().values()):,}"
    yield "start text", json.dumps(loaded.start_text)
    yield "held-out loss", _recorded_loss(directory / "training.json")
    for file in FILES:
        digest = hashlib.sha256((directory / file).read_bytes()).hexdigest()
        yield "sha256", f"{digest}  {file}"
    for name, shape, count in _tensors(loaded):
        yield "tensor", f"{name} {' x '.join(map(str, shape))}{f', {count} times' * (count > 1)}"


def evaluate(loaded: Checkpoint, text_file: Path) -> Evaluation:
    """Predict the held-out part of a text, split as `train` splits it."""
    _, text = read_text(text_file)
    held_out = text[split_at(text, Recipe().held_out_share) :]
    tokens = loaded.tokenizer.encode(held_out)
    size = loaded.config.block_size
    blocks = (len(tokens) - 1) // size
    if blocks < 1:
        raise TrainingError(
            f"{text_file}: its last tenth has {len(tokens)} tokens, at least {size + 1} are needed"
        )
    characters = len(loaded.tokenizer.decode(tokens[1 : blocks * size + 1]))
    nats = held_out_loss(loaded.model, torch.tensor(tokens), size) * blocks * size
    return Evaluation(nats / characters, blocks, characters)


def _vocabulary(loaded: Checkpoint) -> str:
    tokenizer = loaded.tokenizer
    if isinstance(tokenizer, CharTokenizer):
        chars = "".join(tokenizer.chars)
        return f"{len(chars)} characters: {chars!r}"
    ends = (
        f", {shown(tokenizer.end_of_text_name)} ends" if isinstance(tokenizer, BpeTokenizer) else ""
    )
    return f"{tokenizer.vocab_size} byte-level BPE tokens{ends}"


def _recorded_loss(training: Path) -> str:
    """Return what the training wrote down; nothing vouches for it, so a doubt means: measure."""
    try:
        loss = json.loads(training.read_bytes())["held_out_loss_nats_per_character"]
        return f"{float(loss):.4f} nats per character, says training.json; check it with --eval"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "not recorded; measure it with --eval"


def _tensors(loaded: Checkpoint) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Yield each tensor's name and shape, those of the blocks once, with their number."""
    for name, shape in loaded.config.tensor_shapes().items():
        layer = _LAYER.match(name)
        if layer is None:
            yield name, shape, 1
        elif layer[1] == "0":
            yield _LAYER.sub("blocks.*.", name), shape, loaded.config.n_layer


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
