"""Which trace a request belongs to, as its headers say: W3C `traceparent`, else Google's own. Pure.

What is malformed counts as absent: a caller's header can neither break a log line nor a span.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# https://www.w3.org/TR/trace-context/, version 00; ids of zeros are invalid.
_W3C = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
# TRACE_ID/SPAN_ID;o=OPTIONS, the span a decimal number.
_GOOGLE = re.compile(r"(?!0{32})([0-9a-f]{32})/([0-9]{1,20})(?:;o=([01]))?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The span that a request came from."""

    trace_id: str  # 32 hexadecimal digits
    span_id: str  # 16
    sampled: bool

    def log_fields(self, project: str | None) -> dict[str, str | bool]:
        """Return the fields by which Cloud Logging shows a trace's lines together."""
        trace = f"projects/{project}/traces/{self.trace_id}" if project else self.trace_id
        return {
            "logging.googleapis.com/trace": trace,
            "logging.googleapis.com/spanId": self.span_id,
            "logging.googleapis.com/trace_sampled": self.sampled,
        }


def of(environ: Mapping[str, Any]) -> TraceContext | None:
    """Return the trace that a request's headers name; most have none."""
    if "HTTP_TRACEPARENT" not in environ and "HTTP_X_CLOUD_TRACE_CONTEXT" not in environ:
        return None
    return read(environ.get("HTTP_TRACEPARENT", ""), environ.get("HTTP_X_CLOUD_TRACE_CONTEXT", ""))


def read(traceparent: str, cloud_trace: str) -> TraceContext | None:
    """Return the trace that the headers `traceparent` or `X-Cloud-Trace-Context` name."""
    if found := _W3C.fullmatch(traceparent):
        return TraceContext(found[1], found[2], bool(int(found[3], 16) & 1))
    if found := _GOOGLE.fullmatch(cloud_trace):
        span = int(found[2])
        if 0 < span < 2**64:
            return TraceContext(found[1], f"{span:016x}", found[3] == "1")
    return None
