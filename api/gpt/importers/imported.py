"""What an importer has read, made into a model directory that serves the same logits.

Entries of the embedding that no token has (padding of the vocabulary) are left out: they can then
never be sampled. Nothing is written before everything fits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from api.gpt import checkpoint
from api.gpt.importers.files import ImportRefusedError
from api.gpt.model import GPT
from api.gpt.shape import GPTConfig
from api.gpt.tokenizer import CharTokenizer, Tokenizer

# Entries beyond GPT-2's tokens or the like. With more it is another model's vocabulary; characters
# are so few that only the usual rounding up, to a multiple of 64, is believed.
MOST_PADDING = 512
_OF_THE_VOCABULARY = ("token_embedding.weight", "lm_head.weight", "lm_head.bias")


@dataclass(frozen=True, slots=True)
class Imported:
    """A foreign model in this model's terms."""

    config: GPTConfig
    state: dict[str, Tensor]  # float32, named and shaped as `model.GPT` has them
    tokenizer: Tokenizer
    dtype: torch.dtype  # that holds the weights as they came

    @property
    def padding(self) -> int:
        """Entries of the vocabulary beyond its tokens."""
        return self.config.vocab_size - self.tokenizer.vocab_size


def write(imported: Imported, out: Path, *, name: str, start_text: str | None = None) -> None:
    """Write the model directory. Raise ImportRefusedError; then nothing was written."""
    if (out / "manifest.json").exists():
        raise ImportRefusedError(f"{out} holds a model; use another --to, or remove it")
    if taken := checkpoint.first_of(out, checkpoint.WRITTEN):
        raise ImportRefusedError(f"{out} holds a {taken} of something else; use another --to")
    imported = _without_padding(imported)
    start = start_text or imported.tokenizer.start_text
    if problem := checkpoint.name_problem(name):
        raise ImportRefusedError(f"--name {problem}")
    if problem := checkpoint.start_text_problem(start, imported.tokenizer):
        raise ImportRefusedError(f"--start-text {problem}")
    with torch.device("meta"):
        model = GPT(imported.config)
    model.load_state_dict(imported.state, assign=True)
    try:
        checkpoint.save(
            out,
            name=name,
            model=model,
            tokenizer=imported.tokenizer,
            start_text=start,
            dtype=imported.dtype,
        )
        checkpoint.load(out)
    except OSError as exc:
        raise ImportRefusedError(f"{out}: {exc.strerror or exc}") from exc
    except checkpoint.CheckpointError as exc:
        raise ImportRefusedError(str(exc)) from exc


def belong_together(tokenizer: Tokenizer, entries: int) -> bool:
    """Say whether a model's vocabulary is these tokens, and at most the usual padding."""
    tokens = tokenizer.vocab_size
    if isinstance(tokenizer, CharTokenizer):
        return entries in (tokens, -(-tokens // 64) * 64)
    return 0 <= entries - tokens <= MOST_PADDING


def _without_padding(imported: Imported) -> Imported:
    tokens, entries = imported.tokenizer.vocab_size, imported.config.vocab_size
    if not belong_together(imported.tokenizer, entries):
        kind = "characters" if isinstance(imported.tokenizer, CharTokenizer) else "tokens"
        raise ImportRefusedError(
            f"the vocabulary has {tokens} {kind}, the model {entries} entries: "
            "they do not belong together"
        )
    if not imported.padding:
        return imported
    cut = {
        name: tensor[:tokens].contiguous() if name in _OF_THE_VOCABULARY else tensor
        for name, tensor in imported.state.items()
    }
    return replace(imported, config=replace(imported.config, vocab_size=tokens), state=cut)
