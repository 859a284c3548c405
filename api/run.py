"""One generation on behalf of one request: from the engine's queue to the last line about it.

`finish` runs once whatever happens (the text was delivered, the caller went away, the engine
failed, the process drains): it stops the engine, settles the charge, writes the log line and the
metrics. A caller who reads too slowly or left is not waited for.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import structlog

from api.admission import GENERATION_SECONDS, Admission, admit
from api.call import Call
from api.errors import ProblemError
from api.gpt.request import (
    EngineRefusedError,
    FinishReason,
    GenerationRequest,
    NotEncodableError,
)
from api.ids import unique
from api.lifecycle import Generation, GenerationResult
from api.limits.policy import Once
from api.telemetry import child
from api.tracing import Span

EVENT_SECONDS = 0.05  # at most about 20 events a second
HEARTBEAT_SECONDS = 4.5  # a comment within 5 s: a write is how a lost caller shows
WATCH_SECONDS = 0.5  # how often a caller who waits for one JSON answer is looked for

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a route asks the engine for; the rest comes from the principal."""

    prompt: str
    seed: int
    num_chars: int
    temperature: float
    top_k: int | None
    top_p: float | None
    stop: tuple[str, ...]


class Run:
    """A generation that was admitted and submitted. One thread reads it; any may `finish` it."""

    def __init__(
        self,
        call: Call,
        admission: Admission,
        generation: Generation,
        wanted: Wanted,
        *,
        run_id: str,
        model: str,
        streamed: bool,
    ) -> None:
        parts = call.parts
        self._parts, self._admission, self._generation = parts, admission, generation
        self._once = threading.Lock()
        self._log_fields = call.log_fields
        self.wanted, self.run_id, self.model, self.streamed = wanted, run_id, model, streamed
        self.delivered_chars = 0
        self._trace = call.trace
        self._began = parts.clock() - (parts.monotonic() - call.started)  # when the request did
        self._submitted = parts.clock()
        parts.metrics.running.inc()

    def result(self) -> GenerationResult:
        """Return how it ended; wait until it has."""
        return self._generation.result()

    def wait(self, caller_left: Callable[[], bool]) -> GenerationResult:
        """Return the whole result; stop early when the caller left."""
        while True:
            try:
                return self._generation.result(WATCH_SECONDS)
            except TimeoutError:
                if caller_left():
                    self._generation.abort()

    def pieces(self) -> Iterator[str]:
        """Yield text as it comes, coalesced; "" when there was none for `HEARTBEAT_SECONDS`.

        A piece counts as delivered when the next one is asked for: then it was written.
        """
        while (text := self._generation.read(HEARTBEAT_SECONDS)) is not None:
            yield text
            self.delivered_chars += len(text)
            if text and not self._generation.ended:
                time.sleep(EVENT_SECONDS)

    def finish(self) -> None:
        """End it, settle it and say so, once."""
        if not self._once.acquire(blocking=False):
            return
        self._generation.abort()
        result = self._generation.result()
        charged = self.charged_chars(result)
        # Redis settles while the rest is told; nobody is answered before it has.
        settled = self._admission.settling(charged, result.finish_reason.value)
        try:
            self._tell(result, charged)
        finally:
            settled()

    def _tell(self, result: GenerationResult, charged: int) -> None:
        """Count the end, log it and trace it."""
        metrics, tracing = self._parts.metrics, self._parts.tracing
        metrics.running.dec()
        child(metrics.finished, result.finish_reason.value).inc()
        metrics.chars.inc(charged)
        if result.first_char_ms is not None:
            metrics.first_char_seconds.observe(result.first_char_ms / 1000)
        lease, principal = self._admission.lease, self._admission.principal
        line = {
            **self._log_fields,
            "generation_id": self.run_id,
            "lease_id": lease.lease_id,
            "admitted_at_ms": lease.admitted_at_ms,
            "tenant": principal.tenant,
            "key_id": principal.key_id,
            "streamed": self.streamed,
            "finish_reason": result.finish_reason.value,
            "reserved_chars": lease.reserved_chars,
            "charged_chars": charged,
            "generated_chars": result.generated_chars,
            **_timing_ms(result),
            "chars_per_second": _rate(result),
        }
        if result.error is None:
            log.info("generation.settled", **line)
        else:
            log.error("generation.settled", **line, error=result.error)
        if tracing.wanted:
            tracing.record(self._span(result, charged))

    def _span(self, result: GenerationResult, charged: int) -> Span:
        principal, events = self._admission.principal, {"admitted": self._submitted}
        if result.first_char_ms is not None:
            events["first_char"] = self._submitted + result.first_char_ms / 1000
        return Span(
            "generate",
            self._began,
            self._parts.clock(),
            self._trace,
            failed=result.finish_reason is FinishReason.ERROR,
            attributes={
                "quillgate.generation_id": self.run_id,
                "quillgate.tenant": principal.tenant,
                "quillgate.key_id": principal.key_id,
                "quillgate.model": self.model,
                "quillgate.streamed": self.streamed,
                "quillgate.finish_reason": result.finish_reason.value,
                "quillgate.generated_chars": result.generated_chars,
                "quillgate.charged_chars": charged,
                "quillgate.queued_ms": result.queued_ms,
            },
            events=events,
        )

    def charged_chars(self, result: GenerationResult) -> int:
        """What was generated, unless we failed to hand it over, less what was paid before."""
        ours = result.finish_reason in {FinishReason.ERROR, FinishReason.DRAINING}
        owed = self.delivered_chars if ours else result.generated_chars
        lease = self._admission.lease
        return min(lease.reserved_chars, max(0, owed - lease.paid_chars))

    def answer(self, result: GenerationResult) -> dict[str, Any]:
        """Return the answer of contract section 5, less `text`."""
        return {
            "id": self.run_id,
            "model": self.model,
            "seed": self.wanted.seed,
            "temperature": self.wanted.temperature,
            "num_chars": self.wanted.num_chars,
            "finish_reason": result.finish_reason.value,
            "usage": {
                "prompt_chars": len(self.wanted.prompt),
                "generated_chars": result.generated_chars,
                "charged_chars": self.charged_chars(result),
            },
            "timing_ms": _timing_ms(result),
        }


def start(call: Call, wanted: Wanted, once: Once | None = None, *, streamed: bool) -> Run:
    """Charge the request and hand it to the engine. Raise ProblemError; then nothing is charged."""
    parts = call.parts
    engine = parts.lifecycle.engine()
    admission = admit(call, wanted.num_chars, once)
    principal = admission.principal
    if admission.seed is not None:
        wanted = replace(wanted, seed=admission.seed)
    run_id = f"gen_{unique(24)}"
    try:
        generation = engine.submit(
            GenerationRequest(
                request_id=run_id,
                tenant=principal.tenant,
                prompt=wanted.prompt or engine.start_text,
                seed=wanted.seed,
                num_chars=wanted.num_chars,
                temperature=wanted.temperature,
                top_k=wanted.top_k,
                top_p=wanted.top_p,
                stop=wanted.stop,
                weight=principal.plan.weight,
                deadline=parts.monotonic() + GENERATION_SECONDS,
            )
        )
    except NotEncodableError as exc:
        admission.give_back()
        raise ProblemError("prompt_not_encodable", f"{exc}.") from exc
    except EngineRefusedError as exc:
        admission.give_back()
        raise ProblemError(exc.code, retry_after_ms=round(exc.retry_after_seconds * 1000)) from exc
    except BaseException:
        admission.give_back()
        raise
    run = Run(
        call,
        admission,
        generation,
        wanted,
        run_id=run_id,
        model=engine.model_name,
        streamed=streamed,
    )
    if streamed:
        log.info("generation.started", generation_id=run_id, num_chars=wanted.num_chars)
    return run


def _timing_ms(result: GenerationResult) -> dict[str, int | None]:
    return {
        "queued": result.queued_ms,
        "first_char": result.first_char_ms,
        "total": result.total_ms,
    }


def _rate(result: GenerationResult) -> float | None:
    """Return the characters a second after the first one; None: there was no second one."""
    if result.first_char_ms is None or result.total_ms <= result.first_char_ms:
        return None
    written_ms = result.total_ms - result.first_char_ms
    return round((result.generated_chars - 1) / written_ms * 1000, 1)


def failure(result: GenerationResult) -> ProblemError:
    """Return the problem of a generation that did not end well."""
    if result.finish_reason is FinishReason.DRAINING:
        return ProblemError("draining")
    if result.finish_reason is FinishReason.REFUSED:
        return ProblemError("overloaded")
    if result.finish_reason is FinishReason.ABORTED:
        return ProblemError("overloaded", "The answer was not read fast enough.")
    return ProblemError("internal_error", reason=result.error)


def ended_well(result: GenerationResult) -> bool:
    return result.finish_reason in {FinishReason.LENGTH, FinishReason.STOP, FinishReason.DEADLINE}


def whole_result(call: Call, run: Run) -> GenerationResult:
    """Return the result of a run that is answered at once. Raise ProblemError if it failed."""
    try:
        result = run.wait(caller_watch(call.environ))
    finally:
        run.finish()
    if not ended_well(result):
        raise failure(result)
    return result


def caller_watch(environ: dict[str, Any]) -> Callable[[], bool]:
    """Return a function that tells whether the caller closed the connection.

    A closed sending side counts as gone, as reverse proxies hold it.
    """
    connection = environ.get("gunicorn.socket")

    def left() -> bool:
        if connection is None:
            return False
        with contextlib.suppress(BlockingIOError):
            try:
                return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except ConnectionError:
                return True
        return False

    return left
