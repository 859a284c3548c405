"""Server-sent events: an open comment at once, text, heartbeats, exactly one terminal event.

Every `data` is one line of ASCII JSON, so no text of the model can break the framing. Whatever
goes wrong after the first byte is told in the terminal event; a caller who left is told nothing.
The charge is settled before the terminal event: who has read it can spend what came back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from flask import Response

from api.errors import ProblemError
from api.run import Run, ended_well, failure

OPEN = b": open\n\n"
HEARTBEAT = b": waiting\n\n"

log = structlog.get_logger()


def event(name: str | None, data: Any) -> bytes:
    """Return one event; without a name it is the default, `message`."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode("ascii")


def respond(
    run: Run,
    *,
    text: Callable[[str], bytes],
    done: Callable[[Any], bytes],
    error: Callable[[ProblemError], bytes],
) -> Response:
    """Return the streamed answer of a run; `finish` is attached before anything can fail."""
    response = Response(
        _events(run, text=text, done=done, error=error),
        content_type="text/event-stream; charset=utf-8",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
    response.call_on_close(run.finish)
    return response


def _events(
    run: Run,
    *,
    text: Callable[[str], bytes],
    done: Callable[[Any], bytes],
    error: Callable[[ProblemError], bytes],
) -> Iterator[bytes]:
    yield OPEN
    try:
        for piece in run.pieces():
            yield text(piece) if piece else HEARTBEAT
        result = run.result()
        last = done(result) if ended_well(result) else error(failure(result))
        run.finish()
    except Exception:
        log.exception("stream.failed", generation_id=run.run_id)
        last = error(ProblemError("internal_error"))
    yield last
