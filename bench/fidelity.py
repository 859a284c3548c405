"""What int8 costs a model on a text: `python -m bench.fidelity --text held_out.txt`.

The text, cut into blocks of the model's context, is read once in float32 and once in int8 (weights,
activations, keys and values as they are served); the mean losses of the next characters are printed
with their difference. `--held-out` takes the last 10 % of a training text, as training held it out.
A text with characters that the model does not know ends it with the tokenizer's sentence.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from api.gpt import checkpoint
from api.gpt.compiled import CompiledDecoder
from api.gpt.decoder import Portion
from api.gpt.fidelity import logits_of
from api.gpt.sampling import Draw


def lost(logits: np.ndarray, following: list[int]) -> float:
    """Return the summed loss in nats of the tokens that follow."""
    x = logits.astype(np.float64)
    x -= x.max(1, keepdims=True)
    return float((np.log(np.exp(x).sum(1)) - x[np.arange(len(x)), following]).sum())


def losses(model: checkpoint.Checkpoint, tokens: list[int]) -> tuple[float, float, int]:
    """Return the mean loss in float32 and in int8, and over how many tokens."""
    size = model.config.block_size
    decoder = CompiledDecoder(model, slots=1, threads=1)
    exact = rounded = 0.0
    blocks = (len(tokens) - 1) // size
    for number in range(blocks):
        at = number * size
        block, following = tokens[at : at + size], tokens[at + 1 : at + size + 1]
        exact += lost(logits_of(model, block), following)
        seen = []
        for position, token in enumerate(block):
            decoder.run([Portion(0, [token], position, Draw(0, 0, 0.0))], {}, 1)
            seen.append(decoder.logits(1)[0].copy())
        rounded += lost(np.array(seen), following)
        if number % 50 == 0:
            print(f"block {number + 1} of {blocks}", file=sys.stderr, flush=True)
    count = blocks * size
    return exact / count, rounded / count, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("models/demo"))
    parser.add_argument("--held-out", action="store_true", help="only the text's last 10 %%")
    parser.add_argument("--blocks", type=int, help="only so many blocks from the start")
    arguments = parser.parse_args()
    model = checkpoint.load(arguments.model)
    text = arguments.text.read_text(encoding="utf-8-sig")
    if arguments.held_out:
        text = text[int(len(text) * 0.9) :]
    tokens = model.tokenizer.encode(text)
    if arguments.blocks:
        tokens = tokens[: arguments.blocks * model.config.block_size + 1]
    if len(tokens) <= model.config.block_size:
        raise SystemExit(f"{arguments.text}: give more than {model.config.block_size} characters")
    exact, rounded, count = losses(model, tokens)
    print(
        f"{count:,} characters: {exact:.5f} nats in float32, {rounded:.5f} in int8, "
        f"{rounded / exact - 1:+.4%}"
    )


if __name__ == "__main__":
    main()
