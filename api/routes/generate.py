"""`POST /generate`: text from the model, as one JSON answer or as server-sent events."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from api.access import requires
from api.admission import account
from api.call import Call, current_call
from api.errors import FieldError, ProblemError
from api.guards import json_body
from api.idempotency import once
from api.routes import streaming
from api.run import Run, Wanted, start, whole_result
from api.schemas import GenerateRequest, seed_or_random, stops
from auth.principal import Scope

blueprint = Blueprint("generate", __name__)


def whole(call: Call) -> dict[str, Any] | None:
    """Return the answer to a text that is not streamed; None if it is to be."""
    body = json_body(call, GenerateRequest)
    if body.stream:
        return None
    run = _start(call, body, streamed=False)
    result = whole_result(call, run)
    return {"text": result.text, **run.answer(result)}


@blueprint.post("/generate")
@requires(Scope.GENERATE, body=GenerateRequest, query=("dry_run",), whole=whole)
def generate() -> Response:
    """Generate text.

    With `"stream": true` or `Accept: text/event-stream` the answer is server-sent events: `text`
    events with `{"text"}`, then exactly one `done` (the answer less its text) or one `error`.
    With `?dry_run=1` nothing is generated or charged: the answer says what the request would cost,
    whether the limits would admit it, and if not, when; with the `Idempotency-Key` of a request
    that has ended, what its repetition would.
    """
    call = current_call()
    if _dry_run():
        return _foretell(call, json_body(call, GenerateRequest))
    document = None if _accepts_events() else whole(call)
    if document is not None:
        return jsonify(document)
    return _stream(call, _start(call, json_body(call, GenerateRequest), streamed=True))


def _start(call: Call, body: GenerateRequest, *, streamed: bool) -> Run:
    wanted = Wanted(
        prompt=body.prompt,
        seed=seed_or_random(body.seed),
        num_chars=body.num_chars,
        temperature=body.temperature,
        top_k=body.top_k,
        top_p=body.top_p,
        stop=stops(body.stop),
    )
    return start(call, wanted, once(call, body, wanted.seed), streamed=streamed)


def _dry_run() -> bool:
    """Return whether only to foretell. A value that means nothing is no request to charge."""
    if not request.query_string:
        return False
    value = request.args.get("dry_run", "0")
    if value not in {"0", "1"}:
        raise ProblemError("invalid_request", errors=[FieldError("dry_run", "must be 0 or 1")])
    return value == "1"


def _foretell(call: Call, body: GenerateRequest) -> Response:
    decision = account(call, body.num_chars, once(call, body, seed=0))  # the seed is not kept
    # The wait is an answer here, not an order: this very response is no refusal.
    for name in ("Retry-After", "retry-after-ms"):
        call.headers.pop(name, None)
    # Without Redis there is nothing to foretell from, but for what is refused whatever is left.
    known = bool(decision.limits) or decision.code is not None
    chars = body.num_chars if decision.cost_chars is None else decision.cost_chars
    return jsonify(
        {
            "dry_run": True,
            "cost": {"requests": 1, "chars": chars},
            "replay": decision.seed is not None,
            "admitted": decision.code is None if known else None,
            "code": decision.code,
            "limit": decision.binding,
            "retry_after_ms": decision.retry_after_ms,
            "limits": [state._asdict() for state in decision.limits],
        }
    )


def _accepts_events() -> bool:
    # Parsed only where it can matter: most callers name no type or JSON.
    return "event-stream" in request.environ.get("HTTP_ACCEPT", "").lower() and (
        request.accept_mimetypes["text/event-stream"] > 0
    )


def _stream(call: Call, run: Run) -> Response:
    def error(problem: ProblemError) -> bytes:
        return streaming.event("error", problem.document(call.request_id))

    return streaming.respond(
        run,
        text=lambda piece: streaming.event("text", {"text": piece}),
        done=lambda result: streaming.event("done", run.answer(result)),
        error=error,
    )
