"""Whether mode `cuda` can run here: `python -m api.gpt.gpu_trial` records the step of a small model
on the GPU and repeats it.

A process of its own, before the one that serves: that one must not bring torch, let alone a GPU's
context, through its fork. Exit status 1 and one line on stderr where it cannot.
"""

from __future__ import annotations

import sys


def main() -> int:
    from api.gpt.cuda import on_gpu
    from api.gpt.decoder import Portion
    from api.gpt.model import GPT
    from api.gpt.sampling import Draw
    from api.gpt.shape import GPTConfig

    model = GPT(GPTConfig(vocab_size=16, block_size=32, n_layer=1, n_head=1, n_embd=16))
    try:
        on_gpu(model, slots=2).run([Portion(0, [0], 0, Draw(0, 0, 0.0))], {}, 1)
    except ValueError as exc:
        print(exc, file=sys.stderr)  # noqa: T201 - a command
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
