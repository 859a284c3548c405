"""Logs and metrics: what happened, for whom, how long it took; never a key, a prompt or a text.

One line is one event, on stdout, JSON in the field names of Google Cloud Logging or plain for a
terminal. Whatever looks like an API key is blotted out of a line after it was rendered, so that
no path around the rule exists. Nothing here can fail a request.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from auth.api_key import KEY_SHAPE

_SEVERITY = {"warn": "WARNING", "exception": "ERROR"}

EventDict = MutableMapping[str, Any]

# Who asks what, on every line that is written while a request is answered.
log_fields: ContextVar[dict[str, Any] | None] = ContextVar("log_fields", default=None)


def blot(line: str) -> str:
    """Return the line with everything that looks like an API key replaced."""
    return KEY_SHAPE.sub("[key]", line) if "qg_" in line else line


def _of_the_request(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Put who asks what on every line that is written while a request is answered."""
    fields = log_fields.get()
    return event if fields is None else {**fields, **event}


def _time(_logger: object, _method: str, event: EventDict) -> EventDict:
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    event["time"] = f"{_second(seconds)}.{microseconds:06d}Z"
    return event


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    """Return a Unix second in RFC 3339, less its zone: written out once for all of its lines."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:-6]


_json = json.JSONEncoder(default=str)


def _as_json(_logger: object, _method: str, event: EventDict) -> str:
    return _json.encode(event)


def _google_fields(_logger: object, method: str, event: EventDict) -> EventDict:
    level = event.pop("level", method)
    event["severity"] = _SEVERITY.get(level, level.upper())
    event["message"] = event.pop("event", "")
    return event


def _blot_rendered(_logger: object, _method: str, line: Any) -> str:
    return blot(str(line))


class Lossy:
    """A stream whose full disk or broken pipe costs lines, and never the request they tell of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except OSError:
            return

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            return


def configure_logging(log_format: str, level: int = logging.INFO) -> None:
    """Send structlog and the standard library's records to stdout in one form."""
    stdout: Any = Lossy(sys.stdout)
    before: list[Any] = [
        _of_the_request,
        structlog.stdlib.add_log_level,
        _time,
    ]
    render: list[Any]
    if log_format == "json":
        render = [
            structlog.processors.format_exc_info,
            _google_fields,
            _as_json,
            _blot_rendered,
        ]
    else:
        render = [
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=_plain),
            _blot_rendered,
        ]
    structlog.configure(
        processors=[*before, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def _plain(sio: Any, exc_info: Any) -> None:
    """Write a traceback without the values of local variables: they may hold keys."""
    structlog.dev.plain_traceback(sio, exc_info)


@lru_cache(maxsize=4096)
def child(counter: Counter, *labels: object) -> Counter:
    """Return a counter's series for these labels, found once."""
    return counter.labels(*labels)


class AgedKeyring(Protocol):
    """What the metrics show of a keyring."""

    @property
    def problem(self) -> str | None: ...
    @property
    def age_seconds(self) -> float: ...
    @property
    def max_age_seconds(self) -> float: ...


class Metrics:
    """The Prometheus metrics of one process; every label has few values."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "quillgate_requests_total", "Answers.", ["route", "status"], registry=self.registry
        )
        self.problems = Counter(
            "quillgate_problems_total", "Refusals and errors.", ["code"], registry=self.registry
        )
        self.auth_failures = Counter(
            "quillgate_auth_failures_total", "Refused keys.", ["reason"], registry=self.registry
        )
        self.decisions = Counter(
            "quillgate_limiter_decisions_total",
            "What the limiter decided; local: without Redis.",
            ["outcome"],
            registry=self.registry,
        )
        self.limiter_events = Counter(
            "quillgate_limiter_events_total",
            "What the limiter had to say of Redis.",
            ["event"],
            registry=self.registry,
        )
        self.limiter_seconds = Histogram(
            "quillgate_limiter_seconds",
            "Time of one decision.",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
            registry=self.registry,
        )
        self.running = Gauge(
            "quillgate_generations_running", "Admitted, not ended.", registry=self.registry
        )
        self.finished = Counter(
            "quillgate_generations_total", "Generations ended.", ["finish"], registry=self.registry
        )
        self.chars = Counter(
            "quillgate_generated_chars_total", "Characters charged.", registry=self.registry
        )
        self.first_char_seconds = Histogram(
            "quillgate_first_char_seconds",
            "From submission to the first character.",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )

    def watch_keyring(self, keyring: AgedKeyring) -> None:
        """Show how old the keyring is, as of each scrape; infinite: there never was one."""
        Gauge(
            "quillgate_keyring_age_seconds",
            "Since the keyring was last known to be current.",
            registry=self.registry,
        ).set_function(lambda: keyring.age_seconds)
        Gauge(
            "quillgate_keyring_max_age_seconds",
            "An older keyring lets nobody in.",
            registry=self.registry,
        ).set(keyring.max_age_seconds)
        Gauge(
            "quillgate_keyring_stale",
            "1 while the newest keyring cannot be read and an older one serves.",
            registry=self.registry,
        ).set_function(lambda: keyring.problem is not None)

    def watch_model(self, check: Callable[[], str]) -> None:
        """Show whether there is a model to generate with, as /ready says it at each scrape."""
        Gauge(
            "quillgate_model_ready",
            "1: this instance can generate; 0: its model loads, or failed.",
            registry=self.registry,
        ).set_function(lambda: check() == "ok")

    def begin_at_zero(self, events: Iterable[str], finishes: Iterable[str]) -> None:
        """Show these before they were ever counted: a first time is an increase only from 0."""
        for event in events:
            self.limiter_events.labels(event=event)
        for finish in finishes:
            self.finished.labels(finish=finish)

    def refusals(self) -> dict[str, int]:
        """Return how often each code was answered since the start."""
        return {
            sample.labels["code"]: int(sample.value)
            for metric in self.problems.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }

    def serve(self, host: str, port: int) -> None:
        """Serve `/metrics` on a port of its own. Raise OSError if it cannot be had."""
        start_http_server(port, addr=host, registry=self.registry)
