"""Spans for an OpenTelemetry collector, where one is configured: one for each generation.

A span is recorded when its generation has ended, with the times that it had: that is when its last
byte was written, which no hook of the web framework sees. A collector that is slow or away costs a
bounded queue in memory and a log line; it never delays or fails a request. No span holds a key, a
prompt or a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from api import VERSION
from api.trace_context import TraceContext

EXPORT_SECONDS = 1.0  # one attempt to hand spans over; also what the end of the process waits
BATCH_MILLISECONDS = 2_000

Value = str | bool | int | float


@dataclass(frozen=True, slots=True)
class Span:
    """What happened between two points in time, in Unix seconds."""

    name: str
    began: float
    ended: float
    parent: TraceContext | None
    failed: bool
    attributes: Mapping[str, Value]
    events: Mapping[str, float] = field(default_factory=dict)  # name -> when


class Tracing(Protocol):
    """Where spans go."""

    @property
    def wanted(self) -> bool: ...
    def record(self, span: Span) -> None: ...
    def close(self) -> None: ...


class NoTracing:
    """Nowhere."""

    wanted = False

    def record(self, span: Span) -> None:
        """Nobody wants it."""

    def close(self) -> None:
        """Nothing is open."""


class OtlpTracing:
    """To a collector, by OTLP over HTTP. Build it after a fork: it has a thread."""

    wanted = True

    def __init__(self, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

        resource = Resource.create({"service.name": "quillgate-api", "service.version": VERSION})
        # A caller who said that its trace is not kept is taken at its word.
        self._provider = TracerProvider(resource=resource, sampler=ParentBased(ALWAYS_ON))
        exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=BATCH_MILLISECONDS)
        )
        self._tracer = self._provider.get_tracer("quillgate", VERSION)

    def record(self, span: Span) -> None:
        from opentelemetry import trace

        context = None
        if span.parent is not None:
            flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if span.parent.sampled else 0)
            remote = trace.SpanContext(
                int(span.parent.trace_id, 16),
                int(span.parent.span_id, 16),
                is_remote=True,
                trace_flags=flags,
            )
            context = trace.set_span_in_context(trace.NonRecordingSpan(remote))
        made = self._tracer.start_span(
            span.name,
            context,
            kind=trace.SpanKind.SERVER,
            attributes=span.attributes,
            start_time=_nanoseconds(span.began),
        )
        for name, moment in span.events.items():
            made.add_event(name, timestamp=_nanoseconds(moment))
        if span.failed:
            made.set_status(trace.StatusCode.ERROR)
        made.end(_nanoseconds(span.ended))

    def close(self) -> None:
        """Hand over what waits."""
        self._provider.force_flush(round(EXPORT_SECONDS * 1000))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
