"""Compile the kernels before they are needed: `python -m api.gpt.kernels [every | KIND]`.

Without an argument for this processor, with `every` for all kinds of its family: an image is built
once and runs anywhere. What is compiled already is left alone. Exit status 0 done, 1 nothing can be
compiled here, 2 no such kind; each with one line on stderr.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np


def compile_here() -> None:
    """Compile for the processor's kind that is set, by signature alone: nothing is run."""
    import numba

    from api.gpt import compiled, draw, forward
    from api.gpt.packed import shape_of, weights_of
    from api.gpt.shape import GPTConfig

    config = GPTConfig(vocab_size=16, block_size=16, n_layer=1, n_head=1, n_embd=16)
    weights = {n: np.ones(s, np.float32) for n, s in config.tensor_shapes().items()}
    shape = shape_of(config)
    arguments = (
        0,
        1,
        shape,
        weights_of(config, weights),
        compiled.cache_of(shape, 1),
        compiled.slots_of(1),
        compiled.work_of(shape, 1, 1),
        1,
    )
    forward.run.compile(tuple(map(numba.typeof, arguments)))
    f32, f64, i64, u64 = (np.zeros(1, kind) for kind in ("f4", "f8", "i8", "u8"))
    draws = (f32, 1, f64, i64, f64, u64, u64, i64)
    draw.draw_each.compile(tuple(map(numba.typeof, draws)))


def main(name: str | None = None) -> int:
    try:
        from api.gpt import processor
    except ValueError as exc:  # numba is told not to compile
        return _refused(1, str(exc))
    kinds = [kind.name for kind in processor.KINDS]
    if name == "every":  # numba compiles for one in a process
        commands = ([sys.executable, "-m", __spec__.name, kind.name] for kind in processor.family())
        return max(subprocess.run(command, check=False).returncode for command in commands)  # noqa: S603 - ourselves
    if name is not None and name not in kinds:
        return _refused(2, f"{name} is no kind of processor: every, or one of {', '.join(kinds)}")
    if name is not None:
        processor.use(name)
    compile_here()
    print(f"kernels: {processor.kind.name}")  # noqa: T201 - a command
    return 0


def _refused(status: int, why: str) -> int:
    print(f"kernels: {why}", file=sys.stderr)  # noqa: T201 - a command
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
