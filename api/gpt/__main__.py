"""The model tool: `python -m api.gpt import|train|inspect|sample`.

Exit status 0 done, 1 refused, 2 usage, 130 interrupted, 141 nobody reads the output. A model or a
text that cannot be used is refused with one line that says why; tensors that do not fit get a line
each.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import secrets
import shlex
import signal
import sys
from pathlib import Path

from api.gpt.request import FinishReason, GenerationMode, GenerationRequest, NotEncodableError
from api.gpt.shown import shown


def main(argv: list[str]) -> int:
    arguments = _parser().parse_args(argv)
    try:
        status = int(arguments.run(arguments, argv))
        sys.stdout.flush()
    except BrokenPipeError:  # who read it has gone, as `head` does
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:  # noqa: PTH123 # no path
            os.dup2(
                nowhere.fileno(), sys.stdout.fileno()
            )  # what is left must not fail again at exit
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 128 + signal.SIGINT
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api.gpt", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    importer = commands.add_parser("import", help="make a model directory of a model you trained")
    importer.add_argument(
        "--from", dest="format", choices=("nanogpt", "lecture", "huggingface"), required=True
    )
    importer.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="nanogpt: ckpt.pt [meta.pkl]; lecture: model.pth; huggingface: the directory",
    )
    importer.add_argument("--to", type=Path, required=True, help="the model directory to write")
    importer.add_argument(
        "--chars", help="lecture: the text it was trained on, as a file, or its characters in order"
    )
    importer.add_argument(
        "--tokenizer", type=Path, help="tokenizer.json, or vocab.json with merges.txt beside it"
    )
    importer.add_argument(
        "--activation",
        choices=("gelu", "gelu_tanh", "relu"),
        help="of a changed nanoGPT (there: gelu) or lecture model (there: relu)",
    )
    importer.add_argument(
        "--scaled-by-width",
        action="store_true",
        help="lecture: attention is divided by the root of n_embd (C**-0.5), not of the head size",
    )
    importer.add_argument("--name", help="default: the name of the directory")
    importer.add_argument("--start-text", help="what is continued when there is no prompt")
    importer.set_defaults(run=_import)

    train = commands.add_parser("train", help="train a character GPT from a text file")
    train.add_argument("--text", type=Path, required=True, help="a UTF-8 text file")
    train.add_argument("--out", type=Path, required=True, help="the model directory to write")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    train.add_argument("--minutes", type=float, help="train for so long, in place of --steps")
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

    inspect = commands.add_parser("inspect", help="verify a model directory and describe it")
    inspect.add_argument("directory", type=Path, metavar="DIR")
    inspect.add_argument(
        "--eval", type=Path, metavar="FILE", help="measure the loss on the last tenth of a text"
    )
    inspect.set_defaults(run=_inspect)

    sample = commands.add_parser("sample", help="write text with a model, as the service would")
    sample.add_argument("directory", type=Path, metavar="DIR")
    sample.add_argument("--prompt", help="the text to continue; default: the model's start text")
    sample.add_argument("--seed", type=int, help="default: chosen at random and shown")
    sample.add_argument("--num-chars", type=int, default=500)
    sample.add_argument("--temperature", type=float, default=0.8, help="0 is greedy")
    sample.add_argument("--top-k", type=int)
    sample.add_argument("--top-p", type=float)
    sample.add_argument("--stop", action="append", default=[], help="may be given several times")
    sample.add_argument("--mode", choices=[mode.value for mode in GenerationMode], default="auto")
    sample.set_defaults(run=_sample)
    return parser


def _import(arguments: argparse.Namespace, _argv: list[str]) -> int:
    from api.gpt.importers.choice import read
    from api.gpt.importers.files import ImportRefusedError
    from api.gpt.importers.imported import write

    try:
        imported = read(arguments.format, arguments.paths, vars(arguments))
        name = arguments.name or arguments.to.resolve().name
        write(imported, arguments.to, name=name, start_text=arguments.start_text)
    except ImportRefusedError as exc:
        return _refused("import", exc)
    count = sum(tensor.numel() for tensor in imported.state.values())
    print(f"{arguments.to}: {count:,} parameters, {imported.tokenizer.vocab_size} tokens")
    if imported.padding:
        print(f"{imported.padding} entries of the vocabulary were padding and are left out")
    print(f"next: python -m api.gpt sample {shlex.quote(str(arguments.to))}")
    return 0


def _train(arguments: argparse.Namespace, argv: list[str]) -> int:
    from api.gpt.checkpoint import CheckpointError
    from api.gpt.corpus import TrainingError
    from api.gpt.recipe import Recipe, with_overrides
    from api.gpt.train import train

    problem = _train_problem(arguments)
    if problem:
        print(f"train: {problem}", file=sys.stderr)
        return 2
    overrides = {k: v for k, v in vars(arguments).items() if k in Recipe.__dataclass_fields__}
    try:
        recipe = with_overrides(Recipe(), overrides)
        loss = train(
            arguments.text,
            arguments.out,
            recipe,
            resume=arguments.resume,
            command=f"python -m api.gpt {shlex.join(a for a in argv if a != '--resume')}",
            minutes=arguments.minutes,
        )
    except KeyboardInterrupt:
        print("\ntrain: stopped; the same command with --resume goes on", file=sys.stderr)
        return 130
    except (TrainingError, CheckpointError, ValueError, OSError) as exc:
        return _refused("train", exc)
    print(f"{arguments.out}: held-out loss {loss:.4f} nats per character")
    print(f"next: python -m api.gpt sample {shlex.quote(str(arguments.out))}")
    return 0


def _train_problem(arguments: argparse.Namespace) -> str | None:
    if arguments.minutes is not None and arguments.steps is not None:
        return "give --steps or --minutes, not both"
    seed, minutes, dropout = arguments.seed, arguments.minutes, arguments.dropout
    matrix, other = arguments.matrix_lr, arguments.other_lr
    bounds = {
        "--seed from 0 to 2^63-1": seed is None or 0 <= seed < 2**63,
        "--minutes above 0": minutes is None or 0 < minutes < math.inf,
        "--dropout from 0, below 1": dropout is None or 0 <= dropout < 1,
        "--matrix-lr above 0": matrix is None or 0 < matrix < math.inf,
        "--other-lr above 0": other is None or 0 < other < math.inf,
    }
    return next((f"give {need}" for need, met in bounds.items() if not met), None)


def _inspect(arguments: argparse.Namespace, _argv: list[str]) -> int:
    from api.gpt import checkpoint
    from api.gpt.corpus import TrainingError
    from api.gpt.inspection import describe, evaluate

    try:
        loaded = checkpoint.load(arguments.directory)
        for name, value in describe(loaded, arguments.directory):
            print(f"{name:14} {value}")
        if arguments.eval is not None:
            found = evaluate(loaded, arguments.eval)
            print(
                f"{'evaluation':14} {found.nats_per_character:.4f} nats per character over "
                f"{found.characters:,} held-out characters of {arguments.eval}, "
                f"{found.blocks} blocks"
            )
    except (checkpoint.CheckpointError, TrainingError, NotEncodableError) as exc:
        return _refused("inspect", exc)
    return 0


def _sample(arguments: argparse.Namespace, _argv: list[str]) -> int:
    from api.gpt import checkpoint
    from api.gpt.engine import Engine

    problem = _sample_problem(arguments)
    if problem:
        print(f"sample: {problem}", file=sys.stderr)
        return 2
    try:
        loaded = checkpoint.load(arguments.directory)
        engine = Engine(loaded, slots=1, queue_limit=1, mode=GenerationMode(arguments.mode))
    except (checkpoint.CheckpointError, ValueError) as exc:
        return _refused("sample", exc)
    seed = secrets.randbits(63) if arguments.seed is None else arguments.seed
    engine.start()
    try:
        generation = engine.submit(
            GenerationRequest(
                request_id="sample",
                tenant="local",
                prompt=arguments.prompt or loaded.start_text,
                seed=seed,
                num_chars=arguments.num_chars,
                temperature=arguments.temperature,
                top_k=arguments.top_k,
                top_p=arguments.top_p,
                stop=tuple(arguments.stop),
            )
        )
        print(arguments.prompt or "", end="", flush=True)
        while (text := generation.read(timeout_seconds=1.0)) is not None:
            print(_shown(text), end="", flush=True)
    except NotEncodableError as exc:
        return _refused("sample", exc)
    finally:
        engine.close()
    result = generation.result()
    print()
    if result.finish_reason is FinishReason.ERROR:
        print(f"sample: {result.error}", file=sys.stderr)
        return 1
    print(
        f"seed {seed}, {result.generated_chars} characters, {result.finish_reason}, "
        f"{result.total_ms} ms, mode {engine.mode}",
        file=sys.stderr,
    )
    return 0


def _refused(command: str, why: Exception) -> int:
    line = shown(why, keep="\n", most=None)
    print(f"{command}: {line}", file=sys.stderr)
    return 1


def _shown(text: str) -> str:
    """Keep a stranger's model from steering the terminal."""
    return shown(text, keep="\n\t", most=None) if sys.stdout.isatty() else text


def _sample_problem(arguments: argparse.Namespace) -> str | None:
    """Return what is wrong with the arguments, in the bounds that the service has."""
    bounds = {
        "--seed from 0 to 2^63-1": arguments.seed is None or 0 <= arguments.seed < 2**63,
        "--num-chars of at least 1": arguments.num_chars >= 1,
        "--temperature from 0 to 2": 0 <= arguments.temperature <= 2,
        "--top-k of at least 1": arguments.top_k is None or arguments.top_k >= 1,
        "--top-p above 0, at most 1": arguments.top_p is None or 0 < arguments.top_p <= 1,
        "--stop of at least 1 character": all(arguments.stop),
    }
    return next((f"give {need}" for need, met in bounds.items() if not met), None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
