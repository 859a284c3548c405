"""Text for many requests at once, from one thread: a seed's text is the same whatever else runs.

A failure in a step ends every request with an error: no caller waits for an answer that cannot
come. The engine is not `healthy` then; a second later it begins again, empty, unless failures come
one after the other (`RESTARTS`): then it has ended for good.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from api.gpt.batch import Batch
from api.gpt.checkpoint import Checkpoint
from api.gpt.decoder import build
from api.gpt.generation import Generation
from api.gpt.pace import Pace
from api.gpt.rate import Rate
from api.gpt.request import EngineRefusedError, FinishReason, GenerationMode, GenerationRequest
from api.gpt.row import Row
from api.gpt.scheduler import Job, QueueFullError, Scheduler

RESTARTS, RESTART_SPAN_SECONDS = 3, 600.0  # so many in such a time
RESTART_SECONDS = 1.0  # until the next try; long enough for a probe to see
STUCK_SECONDS = 30.0  # a step takes milliseconds: one that takes this long will not end
STOP_SECONDS = 10.0  # a step takes milliseconds; a thread that has not stopped by then is stuck

log = logging.getLogger(__name__)


class _State(StrEnum):
    NEW = "new"
    RUNNING = "running"
    DRAINING = "draining"
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class EngineStats:
    """One moment's numbers, for metrics."""

    slots: int
    running: int
    waiting: int
    generated_chars: int  # since the start
    chars_per_second: float  # lately, all rows together; 0.0 before it is known, or none runs


class Engine:
    """Owns the thread that generates: `start`, `submit`, `drain`, `close`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        slots: int,
        queue_limit: int,
        threads: int = 1,
        tenant_queue_limit: int | None = None,  # None: half of the queue
        mode: GenerationMode = GenerationMode.AUTO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raise ValueError for a mode that this processor cannot run."""
        self.model_name, self.start_text = checkpoint.name, checkpoint.start_text
        self.mode, self._decoder = build(checkpoint, mode, slots=slots, threads=threads)
        self._tokenizer, self._clock = checkpoint.tokenizer, clock
        self._block_size = checkpoint.config.block_size
        self._batch = self._new_batch(slots)  # the engine's thread only
        self._pace = Pace()  # the engine's thread only
        self._new_scheduler = partial(
            Scheduler,
            slots=slots,
            queue_limit=queue_limit,
            tenant_queue_limit=tenant_queue_limit or max(1, queue_limit // 2),
        )
        self._scheduler = self._new_scheduler()
        self._rows: dict[str, Row] = {}  # all that is waiting or running
        self._rate, self._work_rate = Rate(clock), Rate(clock)  # the latter with what is read
        self._step_since: float | None = None  # when the step under way began
        self._state = _State.NEW
        self._changed = threading.Condition()  # guards the six above, but for the batch
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def healthy(self) -> bool:
        """Whether what was submitted is being answered."""
        since = self._step_since
        stuck = since is not None and self._clock() - since > STUCK_SECONDS
        running = self._state in (_State.RUNNING, _State.DRAINING)
        return running and not stuck and self._thread.is_alive()

    def stats(self) -> EngineStats:
        with self._changed:
            return EngineStats(
                slots=self._scheduler.slots,
                running=self._scheduler.running,
                waiting=self._scheduler.waiting,
                generated_chars=self._rate.total,
                chars_per_second=self._rate.per_second if self._scheduler.running else 0.0,
            )

    def start(self) -> None:
        with self._changed:
            if self._state is not _State.NEW:
                raise RuntimeError(f"the engine is {self._state}")
            self._state = _State.RUNNING
        self._thread.start()

    def submit(self, request: GenerationRequest) -> Generation:
        """Queue a request. `request_id` must be of its own.

        Raises NotEncodableError for a prompt that the model has no tokens for, EngineRefusedError
        when the request cannot be taken now, or would only wait past its deadline.
        """
        prompt = self._tokenizer.encode(request.prompt)
        generation = Generation(request, clock=self._clock, on_abort=self._on_abort)
        row = Row(generation, prompt, self._block_size, self._tokenizer)
        job = Job(
            request.request_id,
            request.tenant,
            cost=request.num_chars + row.position + 1,
            weight=request.weight,
            deadline=request.deadline,
        )
        with self._changed:
            self._refuse_if_not_running()
            wait = self._wait_seconds(request)
            if request.deadline is not None and request.deadline <= self._clock() + wait:
                raise EngineRefusedError("overloaded", max(1.0, wait))
            try:
                self._scheduler.enqueue(job)
            except QueueFullError as exc:
                raise EngineRefusedError("overloaded", max(1.0, wait)) from exc
            self._rows[request.request_id] = row
            self._decoder.interrupt()
            self._changed.notify_all()
        return generation

    def drain(self, timeout_seconds: float) -> bool:
        """Take nothing new, let what is here end; end the rest with DRAINING. Return if none was.

        Returns within the time-out, and a step.
        """
        with self._changed:
            if self._state in {_State.RUNNING, _State.FAILED}:
                self._state = _State.DRAINING
                self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._rows, timeout_seconds)
        self._end_all(FinishReason.DRAINING)
        return done

    def close(self) -> None:
        """End everything and stop the thread. Idempotent."""
        with self._changed:
            started = self._state is not _State.NEW
            self._state = _State.CLOSED
            self._decoder.interrupt()
            self._changed.notify_all()
        if started:
            self._thread.join(STOP_SECONDS)
        self._decoder.close()
        self._end_all(FinishReason.DRAINING)

    def _new_batch(self, slots: int) -> Batch:
        return Batch(self._decoder, slots, context=self._block_size)

    def _refuse_if_not_running(self) -> None:
        if self._state is _State.NEW:
            raise EngineRefusedError("model_loading", 1.0)
        if not self.healthy or self._state is _State.DRAINING:
            # Another instance has to answer: this one goes, or begins again in a while.
            raise EngineRefusedError("draining", 5.0)

    def _wait_seconds(self, request: GenerationRequest) -> float:
        """Estimate how long a new request waits for its slot if no text ends early."""
        rows = ((request_id, row.generation) for request_id, row in self._rows.items())
        left = {request_id: begun.chars_left for request_id, begun in rows if begun.started}
        ahead = self._scheduler.cost_ahead(request.tenant, request.weight, left)
        return ahead / (self._work_rate.per_second or 1000.0)

    def _on_abort(self, request_id: str) -> None:
        self._decoder.interrupt()
        with self._changed:
            self._forget_waiting(request_id)

    def _forget_waiting(self, request_id: str) -> None:
        if self._scheduler.withdraw(request_id):
            del self._rows[request_id]
            self._changed.notify_all()

    def _end_all(self, reason: FinishReason, error: str | None = None) -> None:
        with self._changed:
            for request_id, row in list(self._rows.items()):
                row.generation.end(reason, error)
                self._forget_waiting(request_id)
            self._decoder.interrupt()

    # The engine's thread.

    def _run(self) -> None:
        failures: deque[float] = deque(maxlen=RESTARTS)
        while True:
            try:
                while self._tick():
                    pass
                return
            except Exception as exc:
                log.exception("the engine failed")
                self._fail(f"{type(exc).__name__}: {exc}")
            now = self._clock()
            if len(failures) == RESTARTS and now - failures[0] < RESTART_SPAN_SECONDS:
                log.error("the engine has failed too often to begin again")
                return
            failures.append(now)
            if not self._begin_again():
                return

    def _fail(self, error: str) -> None:
        with self._changed:
            if self._state is _State.RUNNING:
                self._state = _State.FAILED
            self._end_all(FinishReason.ERROR, error)
            self._rows.clear()
            self._changed.notify_all()

    def _begin_again(self) -> bool:
        """Wait, then start from nothing; return False if the engine was told to end meanwhile."""
        with self._changed:
            if self._changed.wait_for(lambda: self._state is not _State.FAILED, RESTART_SECONDS):
                return False
            self._scheduler = self._new_scheduler()
            self._batch = self._new_batch(self._scheduler.slots)
            self._decoder.reset()
            self._state = _State.RUNNING
        log.warning("the engine began again")
        return True

    def _tick(self) -> bool:
        """Let rows go and come, then take one step. Return False when the engine is closed."""
        ended = self._batch.remove_ended(self._clock())
        with self._changed:
            for row in ended:
                self._scheduler.finish(row.request_id)
                del self._rows[row.request_id]
            if ended:
                self._changed.notify_all()
            self._end_overdue()
            if not self._rows:
                self._rate.pause()
                self._work_rate.pause()
                self._changed.wait_for(lambda: self._rows or self._state is _State.CLOSED)
            if self._state is _State.CLOSED:
                return False
            for job in self._scheduler.preempt():
                self._batch.evict(row := self._rows[job.job_id])
                if row.generation.ended:  # a moment ago: it waits for nothing
                    self._forget_waiting(job.job_id)
            admitted = [self._rows[job.job_id] for job in self._scheduler.admit()]
        for row in admitted:
            row.generation.start()
            self._batch.add(row)
        self._step_since = begin = self._clock()
        try:
            progress = self._batch.step(self._pace.steps)
        finally:
            self._step_since = None
        self._pace.took(progress.steps, self._clock() - begin)
        self._rate.add(progress.chars)
        self._work_rate.add(progress.chars + progress.read)
        with self._changed:
            self._scheduler.worked(progress.work)
        return True

    def _end_overdue(self) -> None:
        for request_id in self._scheduler.overdue(self._clock()):
            generation = self._rows[request_id].generation
            # One that was never started is no answer, not even an empty one.
            started = generation.started
            generation.end(FinishReason.DEADLINE if started else FinishReason.REFUSED)
            self._forget_waiting(request_id)
