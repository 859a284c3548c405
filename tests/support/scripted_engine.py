"""An engine whose text, speed and failures a test decides; it keeps the real one's interface."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass

from api.gpt.request import (
    EngineRefusedError,
    FinishReason,
    GenerationRequest,
    NotEncodableError,
)


@dataclass(frozen=True)
class ScriptedResult:
    text: str
    finish_reason: FinishReason
    generated_chars: int
    queued_ms: int = 0
    first_char_ms: int | None = 1
    total_ms: int = 2
    error: str | None = None


@dataclass(frozen=True)
class ScriptedStats:
    slots: int = 4
    running: int = 2
    waiting: int = 1
    generated_chars: int = 1000
    chars_per_second: float = 12.5


class ScriptedGeneration:
    def __init__(self, engine: ScriptedEngine, request: GenerationRequest) -> None:
        self._engine, self.request = engine, request
        self._pieces: queue.Queue[str | None] = queue.Queue()
        self._ended = threading.Event()
        self._stop: FinishReason | None = None
        self._lock = threading.Lock()
        self._text = ""
        self._result: ScriptedResult | None = None
        self.aborts = 0

    def start(self) -> None:
        threading.Thread(target=self._write, daemon=True).start()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def read(self, timeout_seconds: float) -> str | None:
        try:
            text = self._pieces.get(timeout=timeout_seconds)
            while text is not None and self._pieces.queue and self._pieces.queue[0] is not None:
                text += self._pieces.get() or ""
        except queue.Empty:
            return ""
        return text

    def result(self, timeout_seconds: float | None = None) -> ScriptedResult:
        if not self._ended.wait(10 if timeout_seconds is None else timeout_seconds):
            raise TimeoutError
        assert self._result is not None
        return self._result

    def abort(self) -> None:
        self.aborts += 1
        self.stop(FinishReason.ABORTED)

    def stop(self, reason: FinishReason) -> None:
        with self._lock:
            self._stop = self._stop or reason

    def _write(self) -> None:
        reason, error = FinishReason.LENGTH, None
        for i in range(self.request.num_chars):
            if self._engine.fail_after is not None and i >= self._engine.fail_after:
                reason, error = FinishReason.ERROR, "the scripted failure"
                break
            if self._engine.seconds_per_char:
                time.sleep(self._engine.seconds_per_char)
            if self._stop is not None:
                reason = self._stop
                break
            char = self._engine.alphabet[(self.request.seed + i) % len(self._engine.alphabet)]
            self._text += char
            self._pieces.put(char)
            if self._text.endswith(self.request.stop or ("\0",)):
                reason = FinishReason.STOP
                break
        self._result = ScriptedResult(self._text, reason, len(self._text), error=error)
        self._engine.running.discard(self)
        self._ended.set()
        self._pieces.put(None)


class ScriptedEngine:
    """Writes its alphabet over and over, starting at the seed; has no token for digits."""

    model_name, mode, start_text = "scripted", "scripted", "\n"

    def __init__(self) -> None:
        self.seconds_per_char = 0.0
        self.alphabet = "abcdefghij"
        self.fail_after: int | None = None
        self.refuse: EngineRefusedError | None = None
        self.healthy = True
        self.submitted: list[ScriptedGeneration] = []
        self.running: set[ScriptedGeneration] = set()

    def submit(self, request: GenerationRequest) -> ScriptedGeneration:
        if self.refuse is not None:
            raise self.refuse
        unknown = dict.fromkeys(c for c in request.prompt if c.isdigit())
        if unknown:
            raise NotEncodableError(tuple(unknown))
        generation = ScriptedGeneration(self, request)
        self.submitted.append(generation)
        self.running.add(generation)
        generation.start()
        return generation

    def stats(self) -> ScriptedStats:
        return ScriptedStats()

    def drain(self, timeout_seconds: float) -> bool:
        self.refuse = EngineRefusedError("draining", 1)
        end = time.monotonic() + timeout_seconds
        while self.running and time.monotonic() < end:
            time.sleep(0.01)
        done = not self.running
        for generation in list(self.running):
            generation.stop(FinishReason.DRAINING)
        while self.running:
            time.sleep(0.01)
        return done

    def close(self) -> None:
        self.drain(0)
