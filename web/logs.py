"""What the web app writes to stderr: one line for each record, as JSON in a container.

An exception is told by its type and place, never by its message: a message may quote a value.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from typing import TextIO

_KEY_SHAPE = re.compile(r"qg_[a-z]{1,8}_[0-9A-Za-z]{12}_[0-9A-Za-z_]{6,}")


def describe(exc: BaseException) -> str:
    """Return an exception's type and the line it came from, and nothing it says."""
    frames = traceback.extract_tb(exc.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(exc).__name__}{place}"


def blot(line: str) -> str:
    """Return the line with everything that looks like an API key, whole or cut, replaced."""
    return _KEY_SHAPE.sub("[key]", line)


class JsonLines(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "severity": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = describe(record.exc_info[1])
        return blot(json.dumps(line))


class PlainLines(logging.Formatter):
    """A line for a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return blot(super().format(record))

    def formatException(self, ei: object) -> str:  # noqa: N802  # the name is logging's
        """Return the type and place alone."""
        exc = ei[1] if isinstance(ei, tuple) else None
        return describe(exc) if isinstance(exc, BaseException) else ""


def configure(log_format: str, stream: TextIO = sys.stderr) -> None:
    """Send every logger's records to `stream`, formatted as `json` or `console`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if log_format == "json" else PlainLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # Streamlit gives its loggers handlers of their own, which print whole tracebacks.
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] in ("streamlit", "uvicorn"):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it tells of every connection
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
