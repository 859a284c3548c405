"""What generation needs of a model in serving form, and which form a checkpoint gets.

A row's tokens are the same whatever rows are beside it and however many steps are taken at a time.
A row has a slot from the first token that is read for it until it ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from api.gpt.checkpoint import Checkpoint
from api.gpt.request import GenerationMode
from api.gpt.sampling import Draw
from api.gpt.shape import GPTConfig

PORTION = 32  # tokens of one text that are read at a time
# Tokens after which a step reads no more portions: beside running rows, and if there are none.
READ_BESIDE, READ_ALONE = 32, 128


@dataclass(frozen=True, slots=True)
class Portion:
    """The next tokens of a text, at most `PORTION`, that a slot is to read."""

    slot: int
    tokens: Sequence[int]
    start: int  # the first one's position in the window: a multiple of PORTION
    draw: Draw | None  # how to continue the text, when it ends with this portion


class Decoder(Protocol):
    """Used by one thread, but for `interrupt`."""

    reads_one_at_a_time: bool  # a text that was begun must be read to its end before another is

    def run(
        self, portions: Sequence[Portion], running: Mapping[int, int], steps: int
    ) -> dict[int, list[int]]:
        """Read the portions, and draw tokens for each slot whose text has been read.

        running: the slots whose text was read before, and how many tokens may be drawn for each.
        Returns each slot's tokens: `steps` of them, or fewer once one slot has none left or after
        `interrupt`; one if there are portions. Raises sampling.NonFiniteLogitsError.
        """

    def release(self, slot: int) -> None:
        """Forget a slot: its row has ended, or is to be read again."""

    def reset(self) -> None:
        """Forget every slot, also after a `run` that failed."""

    def interrupt(self) -> None:
        """End the `run` under way with the step it is in, or else the next one. Any thread."""

    def close(self) -> None:
        """Stop what was started. Idempotent."""


def choose(setting: GenerationMode, config: GPTConfig) -> GenerationMode:
    """Return the mode that runs: the one asked for, or with `auto` the fastest for this model.

    Raises ValueError when the one asked for cannot run it.
    """
    # The kernels work on 16 numbers at a time.
    covered = all(n % 16 == 0 for n in (config.n_embd, config.head_size, config.hidden_size))
    if setting is GenerationMode.AUTO:
        return GenerationMode.INT8 if covered else GenerationMode.FP32
    if setting is GenerationMode.INT8 and not covered:
        raise ValueError(
            "GENERATION_MODE int8 needs a model whose width, head size and feed-forward width are "
            "multiples of 16: use auto or fp32"
        )
    return setting


def build(checkpoint: Checkpoint, mode: GenerationMode, *, slots: int, threads: int) -> Decoder:
    """Return the serving form. mode: from `choose`. What it does not need is not imported.

    Raises ValueError when this machine cannot run it.
    """
    if mode is GenerationMode.INT8:
        from api.gpt.compiled import CompiledDecoder

        return CompiledDecoder(checkpoint, slots=slots, threads=threads)
    if mode is GenerationMode.CUDA:
        from api.gpt.cuda import on_gpu

        return on_gpu(checkpoint.model, slots=slots)
    from api.gpt.plain import PlainDecoder

    return PlainDecoder(checkpoint.model, slots=slots, threads=threads)
