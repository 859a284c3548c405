"""The model tool: `python -m api.gpt train|...`. Exit status 0 done, 1 refused, 2 usage."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path


def main(argv: list[str]) -> int:
    arguments = _parser().parse_args(argv)
    return int(arguments.run(arguments, argv))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api.gpt", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a character GPT from a text file")
    train.add_argument("--text", type=Path, required=True, help="a UTF-8 text file")
    train.add_argument("--out", type=Path, required=True, help="the model directory to write")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    for name, kind, text in (
        ("steps", int, "optimizer steps"),
        ("batch", int, "rows in a step"),
        ("seed", int, "of weights, data order and dropout"),
        ("block-size", int, "context, in characters"),
        ("n-layer", int, "layers"),
        ("n-head", int, "attention heads"),
        ("n-embd", int, "width"),
        ("dropout", float, "on the residual branches"),
        ("matrix-lr", float, "peak learning rate of Muon"),
        ("other-lr", float, "peak learning rate of AdamW"),
        ("warmup-steps", int, "steps before the full rate"),
        ("eval-every", int, "steps between evaluations and checkpoints"),
    ):
        train.add_argument(f"--{name}", type=kind, help=text)
    train.set_defaults(run=_train)
    return parser


def _train(arguments: argparse.Namespace, argv: list[str]) -> int:
    from api.gpt.corpus import TrainingError
    from api.gpt.recipe import Recipe, with_overrides
    from api.gpt.train import train

    overrides = {k: v for k, v in vars(arguments).items() if k in Recipe.__dataclass_fields__}
    try:
        recipe = with_overrides(Recipe(), overrides)
        loss = train(
            arguments.text,
            arguments.out,
            recipe,
            resume=arguments.resume,
            command=f"python -m api.gpt {shlex.join(a for a in argv if a != '--resume')}",
        )
    except (TrainingError, ValueError) as exc:
        print(f"train: {exc}", file=sys.stderr)
        return 1
    print(f"{arguments.out}: held-out loss {loss:.4f} nats per character")
    print(f"next: python -m api.gpt sample {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
