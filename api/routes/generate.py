"""`POST /generate`: text from the model, as one JSON answer or as server-sent events."""

from __future__ import annotations

from flask import Blueprint, Response, g, jsonify, request

from api.access import requires
from api.errors import ProblemError
from api.guards import json_body
from api.parts import service
from api.routes import streaming
from api.run import Run, Wanted, start, whole_result
from api.schemas import GenerateRequest, seed_or_random, stops
from auth.principal import Scope

blueprint = Blueprint("generate", __name__)


@blueprint.post("/generate")
@requires(Scope.GENERATE, body=GenerateRequest)
def generate() -> Response:
    """Generate text.

    With `"stream": true` or `Accept: text/event-stream` the answer is server-sent events: `text`
    events with `{"text"}`, then exactly one `done` (the answer less its text) or one `error`.
    """
    body = json_body(GenerateRequest)
    wanted = Wanted(
        prompt=body.prompt,
        seed=seed_or_random(body.seed),
        num_chars=body.num_chars,
        temperature=body.temperature,
        top_k=body.top_k,
        top_p=body.top_p,
        stop=stops(body.stop),
    )
    streamed = body.stream or _accepts_events()
    run = start(service(), wanted, streamed=streamed)
    if streamed:
        return _stream(run)
    result = whole_result(run)
    return jsonify({"text": result.text, **run.answer(result)})


def _accepts_events() -> bool:
    return "text/event-stream" in request.accept_mimetypes.values()


def _stream(run: Run) -> Response:
    request_id: str = g.request_id

    def error(problem: ProblemError) -> bytes:
        return streaming.event("error", problem.document(request_id))

    return streaming.respond(
        run,
        text=lambda piece: streaming.event("text", {"text": piece}),
        done=lambda result: streaming.event("done", run.answer(result)),
        error=error,
    )
