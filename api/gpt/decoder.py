"""What generation needs of a model in serving form, and which form a checkpoint gets.

A row's tokens are the same whatever rows are beside it and however many steps are taken at a time.
A row has a slot from the first token that is read for it until it ends.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from api.gpt.checkpoint import Checkpoint
from api.gpt.request import GenerationMode
from api.gpt.sampling import Draw
from api.gpt.shape import GPTConfig

PORTION = 32  # tokens of one text that are read at a time
# Tokens after which no more portions are read until running rows have drawn: in turn, and ahead of
# the turns; and at a time if there are no running rows.
READ_BESIDE, READ_AHEAD, READ_ALONE = 32, 128, 128

log = logging.getLogger(__name__)


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


def build(
    checkpoint: Checkpoint, setting: GenerationMode, *, slots: int, threads: int
) -> tuple[GenerationMode, Decoder]:
    """Return the mode that runs and the serving form: what was asked for, or with `auto` the
    fastest that keeps this model's loss. What is not needed is not imported.

    Raises ValueError when the mode asked for cannot run here, or not this model.
    """
    mode = _choose(setting, checkpoint.config)
    if mode is GenerationMode.CUDA:
        from api.gpt.cuda import on_gpu

        return mode, on_gpu(checkpoint.model, slots=slots)
    if mode is GenerationMode.INT8:
        from api.gpt.compiled import CompiledDecoder
        from api.gpt.fidelity import MOST_LOST, lost_in_int8

        decoder = CompiledDecoder(checkpoint, slots=slots, threads=threads)
        lost = lost_in_int8(checkpoint, decoder)
        if lost <= MOST_LOST:
            return mode, decoder
        log.warning(
            "int8 makes this model's loss %.1f %% larger, and %.1f %% is the most it may: %s",
            100 * lost,
            100 * MOST_LOST,
            "fp32 instead"
            if setting is GenerationMode.AUTO
            else "it runs because it was asked for",
        )
        if setting is GenerationMode.INT8:
            return mode, decoder
        decoder.close()
    from api.gpt.plain import PlainDecoder

    return GenerationMode.FP32, PlainDecoder(checkpoint.model, slots=slots, threads=threads)


def _choose(setting: GenerationMode, config: GPTConfig) -> GenerationMode:
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
