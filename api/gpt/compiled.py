"""The model in int8 as compiled kernels: many steps for many rows in one call, without the GIL.

A row's draws depend on its own text, settings and seed alone: whole numbers are summed exactly, and
everything else is done row by row (`forward.py`). The first start on a kind of processor compiles
for some ten seconds (`processor.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from api.gpt.buffers import (
    ARRIVED,
    BROKEN,
    DRAWS,
    INTERRUPT,
    ITEMS,
    SHARED,
    STEPS,
    Cache,
    Shape,
    Slots,
    Work,
)
from api.gpt.checkpoint import Checkpoint
from api.gpt.decoder import PORTION, READ_ALONE, Portion
from api.gpt.draw import NOT_FINITE
from api.gpt.forward import run
from api.gpt.packed import aligned, shape_of, up_to, weights_of
from api.gpt.sampling import Draw, NonFiniteLogitsError

MOST_STEPS = 64  # in one call
STOP_SECONDS = 1.0  # a step takes milliseconds
UNLIMITED = np.iinfo(np.int64).max


class CompiledDecoder:
    """Packed weights, the cache of keys and values, and the threads that work on them."""

    reads_one_at_a_time = False

    def __init__(self, checkpoint: Checkpoint, *, slots: int, threads: int) -> None:
        self._shape = shape_of(checkpoint.config)
        self._weights = weights_of(checkpoint.config, checkpoint.weights)
        self.cache = cache_of(self._shape, slots)
        self._slots, self._work = slots_of(slots), work_of(self._shape, slots, threads)
        self._threads = threads
        self._orders: SimpleQueue[int] = SimpleQueue()
        self._failures: SimpleQueue[BaseException | None] = SimpleQueue()  # of a broken pass
        self._helpers = [
            threading.Thread(target=self._help, args=(t,), name=f"engine-{t}", daemon=True)
            for t in range(1, threads)
        ]
        for helper in self._helpers:
            helper.start()
        self.run([Portion(0, [0], 0, Draw(0, 0, 0.0))], {}, 1)  # compile now, if at all

    def run(
        self, portions: Sequence[Portion], running: Mapping[int, int], steps: int
    ) -> dict[int, list[int]]:
        slots, work = self._slots, self._work
        drawing = list(running)
        count = len(drawing)
        work.slot[:count] = drawing
        work.token[:count] = slots.token[drawing]
        work.position[:count] = slots.position[drawing]
        work.draws[:count] = np.arange(count)
        slots.left[drawing] = list(running.values())
        for portion in portions:
            end = count + len(portion.tokens)
            work.slot[count:end] = portion.slot
            work.token[count:end] = portion.tokens
            work.position[count:end] = np.arange(portion.start, portion.start + end - count)
            if portion.draw is not None:
                self._seat(portion.slot, portion.draw)
                work.draws[len(drawing)] = end - 1
                drawing.append(portion.slot)
            count = end
        work.shared[ITEMS], work.shared[DRAWS] = count, len(drawing)
        self._pass(1 if portions else min(steps, MOST_STEPS))
        work.shared[INTERRUPT] = 0

        drawn = work.drawn.reshape(-1, len(slots.token))[: work.shared[STEPS], drawing]
        if drawn.size and drawn.min() == NOT_FINITE:
            raise NonFiniteLogitsError("the model's output is not finite")
        return dict(zip(drawing, drawn.T.tolist(), strict=True))

    def logits(self, draws: int) -> NDArray[np.float32]:
        """Return copies of the last step's (draws, V). Draws that are not greedy spoil theirs."""
        vocabulary = self._shape.vocabulary
        rows = self._work.logits.reshape(-1, up_to(vocabulary, 16))
        return rows[:draws, :vocabulary].copy()

    def release(self, slot: int) -> None:
        """Nothing to do: a slot's next row reads only what it has written."""

    def reset(self) -> None:
        """Nothing to do, as for `release`."""

    def interrupt(self) -> None:
        self._work.shared[INTERRUPT] = 1

    def close(self) -> None:
        for _ in self._helpers:
            self._orders.put(0)
        for helper in self._helpers:
            helper.join(STOP_SECONDS)
        self._helpers = []

    def _seat(self, slot: int, draw: Draw) -> None:
        slots, vocabulary = self._slots, self._shape.vocabulary
        slots.drawn[slot], slots.seed[slot] = draw.position, draw.seed
        slots.temperature[slot] = draw.temperature
        slots.top_k[slot] = min(draw.top_k or vocabulary, vocabulary)
        slots.top_p[slot] = 1.0 if draw.top_p is None else draw.top_p
        slots.left[slot] = UNLIMITED  # of the one step that this is about

    def _pass(self, steps: int) -> None:
        for _ in self._helpers:
            self._orders.put(steps)
        failure = self._run_or_break(0, steps)
        shared = self._work.shared
        if not shared[BROKEN]:
            return
        # Every helper ends its order and says so: none is left in what the next pass uses.
        ended = [failure, *(self._failures.get(timeout=STOP_SECONDS) for _ in self._helpers)]
        shared[BROKEN] = shared[ARRIVED] = 0
        raise RuntimeError("a thread of the engine failed") from next(filter(None, ended))

    def _run_or_break(self, thread: int, steps: int) -> BaseException | None:
        """Run; return what failed, after telling the others not to wait for this thread."""
        try:
            self._run(thread, steps)
        except BaseException as exc:  # noqa: BLE001 - whatever it is, the others must not wait
            self._work.shared[BROKEN] = 1
            return exc
        return None

    def _run(self, thread: int, steps: int) -> None:
        run(
            thread, self._threads, self._shape, self._weights, self.cache, self._slots, self._work,
            steps,
        )  # fmt: skip

    def _help(self, thread: int) -> None:
        while steps := self._orders.get():
            failure = self._run_or_break(thread, steps)
            if self._work.shared[BROKEN]:
                self._failures.put(failure)


def cache_of(shape: Shape, slots: int) -> Cache:
    places = slots * shape.layers * shape.heads
    positions = places * shape.context
    size = shape.width // shape.heads
    return Cache(
        keys=aligned(positions * size, np.uint8),
        key_scales=aligned(positions, np.float32),
        values=aligned(positions * size, np.uint8),
        value_scales=aligned(positions, np.float32),
    )


def slots_of(slots: int) -> Slots:
    return Slots(
        token=np.zeros(slots, np.int64),
        position=np.zeros(slots, np.int64),
        drawn=np.zeros(slots, np.int64),
        left=np.zeros(slots, np.int64),
        seed=np.zeros(slots, np.uint64),
        temperature=np.zeros(slots, np.float64),
        top_k=np.zeros(slots, np.int64),
        top_p=np.zeros(slots, np.float64),
    )


def work_of(shape: Shape, slots: int, threads: int) -> Work:
    items = slots + READ_ALONE + PORTION  # of every row one, and what is read beside them
    width, hidden, context = shape.width, shape.hidden, shape.context
    return Work(
        shared=aligned(SHARED, np.int64),
        slot=np.zeros(items, np.int64),
        token=np.zeros(items, np.int64),
        position=np.zeros(items, np.int64),
        draws=np.zeros(items, np.int64),
        drawn=np.zeros(MOST_STEPS * slots, np.int64),
        x=aligned(threads * items * width, np.float32),
        added=aligned(items * width, np.float32),
        qkv=aligned(items * 3 * width, np.float32),
        mixed=aligned(items * width, np.float32),
        hidden=aligned(items * hidden, np.float32),
        peaks=aligned(threads * items, np.int32),
        # Each row draws once in a step; texts that end in one step number at most as many as slots.
        logits=aligned(slots * up_to(shape.vocabulary, 16), np.float32),
        rounded=aligned(threads * items * max(width, hidden), np.int8),
        scales=aligned(threads * items, np.float32),
        starts=aligned(threads * items, np.int32),
        line=aligned(threads * width, np.float32),
        bytes=aligned(threads * (width // shape.heads + 2 * context), np.uint8),
        scores=aligned(threads * context, np.float32),
    )
