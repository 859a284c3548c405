"""The OpenAI-compatible face: `GET /v1/models` and `POST /v1/completions`.

The official `openai` client works against it unchanged, streaming too. A token of that API is a
character here: `max_tokens` is `num_chars`, and the usage counts characters. Refusals are the
problems of every other route; in a stream an error is `data: {"error": ...}`, which that client
raises, and ends the stream in place of `[DONE]`.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from api.access import requires
from api.admission import account
from api.call import Call, current_call
from api.errors import FieldError, ProblemError
from api.gpt.request import FinishReason, GenerationMode
from api.guards import json_body
from api.idempotency import once
from api.lifecycle import GenerationResult
from api.parts import service
from api.routes import streaming
from api.run import Run, Wanted, start, whole_result
from api.schemas import CompletionsRequest, seed_or_random, stops
from auth.principal import Scope

blueprint = Blueprint("completions", __name__, url_prefix="/v1")


@blueprint.get("/models")
@requires(Scope.GENERATE, bearer=True)
def models() -> Response:
    """List the one model there is; not charged to the plan."""
    parts = service()
    account(current_call())
    engine = parts.lifecycle.engine()
    model: dict[str, Any] = {
        "id": engine.model_name,
        "object": "model",
        "created": parts.started_at,
        "owned_by": "quillgate",
        "mode": engine.mode,
        "modes": [mode.value for mode in GenerationMode],  # what GENERATION_MODE may be
    }
    return jsonify({"object": "list", "data": [model]})


@blueprint.post("/completions")
@requires(Scope.GENERATE, bearer=True, body=CompletionsRequest)
def completions() -> Response:
    """Generate text, as the OpenAI API's completions do."""
    call, parts = current_call(), service()
    body = json_body(call, CompletionsRequest)
    if body.echo:
        raise ProblemError("invalid_request", errors=[FieldError("echo", "must be false")])
    known = parts.lifecycle.engine().model_name
    if body.model is not None and body.model != known:
        raise ProblemError("invalid_request", errors=[FieldError("model", f'must be "{known}"')])
    wanted = Wanted(
        prompt=body.prompt,
        seed=seed_or_random(body.seed),
        num_chars=body.max_tokens,
        temperature=body.temperature,
        top_k=None,
        top_p=body.top_p,
        stop=stops(body.stop),
    )
    run = start(call, wanted, once(call, body, wanted.seed), streamed=body.stream)
    created = int(parts.clock())
    if body.stream:
        usage = body.stream_options is not None and body.stream_options.include_usage
        return _stream(call, run, created, include_usage=usage)
    result = whole_result(call, run)
    choices = [_choice(result.text, _finish_reason(result))]
    return jsonify({**_head(run, created), "choices": choices, "usage": _usage(run, result)})


def _stream(call: Call, run: Run, created: int, *, include_usage: bool) -> Response:
    head = _head(run, created)

    def chunk(choices: list[dict[str, Any]], usage: Any = None) -> bytes:
        told = {"usage": usage} if include_usage else {}
        return streaming.event(None, {**head, "choices": choices, **told})

    def done(result: GenerationResult) -> bytes:
        last = chunk([_choice("", _finish_reason(result))])
        if include_usage:
            last += chunk([], _usage(run, result))
        return last + b"data: [DONE]\n\n"

    def error(problem: ProblemError) -> bytes:
        document = problem.document(call.request_id)
        return streaming.event(None, {"error": {"message": problem.detail, **document}})

    return streaming.respond(
        run, text=lambda piece: chunk([_choice(piece, None)]), done=done, error=error
    )


def _head(run: Run, created: int) -> dict[str, Any]:
    return {"id": run.run_id, "object": "text_completion", "created": created, "model": run.model}


def _choice(text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": None}


def _finish_reason(result: GenerationResult) -> str:
    """That API knows two ends: a stop, or a bound (ours: the length or the deadline)."""
    return "stop" if result.finish_reason is FinishReason.STOP else "length"


def _usage(run: Run, result: GenerationResult) -> dict[str, int]:
    prompt = len(run.wanted.prompt)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": result.generated_chars,
        "total_tokens": prompt + result.generated_chars,
    }
