"""Loading, ready, draining: what this process can do now, and the way out of it.

The model and the keyring load in threads of their own after the worker booted, so `/health`
answers meanwhile. A keyring that cannot be had is tried again for ever; a model that cannot be
loaded is not (its files will not change): the process stays up, never ready, and says why.
Draining is one-way: new work is refused at once, what runs gets a few seconds and its last event.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from api.errors import ProblemError
from api.gpt.request import FinishReason, GenerationRequest

KEYRING_RETRY_SECONDS = 2.0

log = structlog.get_logger()


class GenerationResult(Protocol):
    """How a generation ended; times are milliseconds since it was submitted."""

    @property
    def text(self) -> str: ...
    @property
    def finish_reason(self) -> FinishReason: ...
    @property
    def generated_chars(self) -> int: ...
    @property
    def queued_ms(self) -> int: ...
    @property
    def first_char_ms(self) -> int | None: ...
    @property
    def total_ms(self) -> int: ...
    @property
    def error(self) -> str | None: ...


class Generation(Protocol):
    """A generation under way, seen by the thread that reads it."""

    @property
    def ended(self) -> bool: ...
    def read(self, timeout_seconds: float) -> str | None: ...
    def result(self, timeout_seconds: float | None = None) -> GenerationResult: ...
    def abort(self) -> None: ...


class EngineStats(Protocol):
    """One moment's numbers of the generator."""

    @property
    def slots(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def generated_chars(self) -> int: ...
    @property
    def chars_per_second(self) -> float: ...


class Engine(Protocol):
    """What the service needs of `api.gpt.engine.Engine`, which brings torch with it."""

    @property
    def healthy(self) -> bool: ...
    @property
    def model_name(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def start_text(self) -> str: ...
    def submit(self, request: GenerationRequest) -> Generation: ...
    def stats(self) -> EngineStats: ...
    def drain(self, timeout_seconds: float) -> bool: ...
    def close(self) -> None: ...


class Loadable(Protocol):
    """What the service needs of the keyring while it starts."""

    def load(self) -> None: ...


class ModelUnusableError(Exception):
    """The model cannot be served; `str()` is one line that says why."""


class Lifecycle:
    """The state of one process. `start` and `drain` may be called from any thread, once each."""

    def __init__(
        self,
        *,
        load_engine: Callable[[], Engine],
        keyring: Loadable,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._load_engine, self._keyring, self._sleep = load_engine, keyring, sleep
        self._engine: Engine | None = None
        self._failure: str | None = None
        self._draining = threading.Event()
        self._drained = threading.Event()

    def start(self) -> None:
        """Begin to load; return at once."""
        for name, target in (("keyring", self._load_keyring), ("model", self._load_model)):
            # Daemons: a shut-down does not wait for a load that nobody needs any more.
            threading.Thread(target=target, name=f"load-{name}", daemon=True).start()

    @property
    def draining(self) -> bool:
        return self._draining.is_set()

    @property
    def model_check(self) -> str:
        """Return "ok", or why there is no model to generate with."""
        if self._failure is not None:
            return f"failed: {self._failure}"
        if self._engine is None:
            return "loading"
        return "ok" if self._engine.healthy else "failed: the generator stopped"

    @property
    def model_name(self) -> str | None:
        return None if self._engine is None else self._engine.model_name

    def stats(self) -> EngineStats | None:
        """Return the generator's numbers, None before there is one."""
        return None if self._engine is None else self._engine.stats()

    def engine(self) -> Engine:
        """Return the engine. Raise ProblemError `model_loading` while there is none to use."""
        if self._engine is None and self._failure is None:
            raise ProblemError("model_loading", reason=self.model_check)
        if self._engine is None or not self._engine.healthy:
            detail = "This instance has no model to generate with; /ready says why."
            raise ProblemError("model_loading", detail, reason=self.model_check)
        return self._engine

    def drain(self, timeout_seconds: float) -> None:
        """Refuse new work, end what runs within the time, and return when nothing runs."""
        if self._draining.is_set():
            self._drained.wait(timeout_seconds)
            return
        self._draining.set()
        if self._engine is not None:
            self._engine.drain(timeout_seconds)
        self._drained.set()

    def close(self) -> None:
        self._draining.set()
        if self._engine is not None:
            self._engine.close()

    def _load_model(self) -> None:
        try:
            engine = self._load_engine()
        except ModelUnusableError as exc:
            self._failure = str(exc)
            log.error("model.failed", reason=self._failure)  # noqa: TRY400 - the line says it all
            return
        except Exception as exc:
            # Whatever it was, a process without a model stays up to say so on /ready.
            self._failure = type(exc).__name__
            log.exception("model.failed", reason=str(exc))
            return
        # What was imported and loaded stays for good: keep the collector from walking through it.
        gc.collect()
        gc.freeze()
        # A request makes some hundred short-lived objects; every other one need not pay for a look.
        gc.set_threshold(20_000, 20, 50)
        self._engine = engine
        log.info("model.loaded", model=engine.model_name, mode=engine.mode)

    def _load_keyring(self) -> None:
        said = ""
        while not self.draining:
            try:
                self._keyring.load()
            except Exception as exc:  # noqa: BLE001 - any failure means: not yet, try again
                reason = str(exc) or type(exc).__name__
                if reason != said:
                    log.warning("keyring.load_failed", reason=reason)
                said = reason
                self._sleep(KEYRING_RETRY_SECONDS)
            else:
                log.info("keyring.loaded")
                return
