"""What `python -m auth` writes to its log, stderr: every audit record, and what went wrong.

Answers go to stdout, alone. As JSON the lines have the fields of the service's log, so that one
collector takes both; on a terminal an audit record is one short line, the whole of it is in
`audit list`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

AUDIT = "audit"  # the event that auth/audit.py logs for each record

Event = MutableMapping[str, Any]


def configure(log_format: str) -> None:
    """Send the log to stderr as `json` or for a `console`."""
    render: list[Any] = [structlog.dev.ConsoleRenderer(colors=False)]
    if log_format == "json":
        render = [
            structlog.processors.format_exc_info,
            _with_severity,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(default=str),
        ]
    structlog.configure(
        processors=[
            _what_matters,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            *([] if log_format == "json" else [_short]),
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _what_matters(_logger: object, method: str, event: Event) -> Event:
    if method == "info" and event["event"] != AUDIT:
        raise structlog.DropEvent
    return event


def _with_severity(_logger: object, method: str, event: Event) -> Event:
    event["severity"] = event.pop("level", method).upper()
    return event


def _short(_logger: object, _method: str, event: Event) -> Event:
    if event["event"] != AUDIT:
        return event
    shown = ("time", "level", "event", "number", "actor", "action", "subject")
    return {name: event[name] for name in shown if name in event}
