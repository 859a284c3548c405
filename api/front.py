"""What every request meets first and leaves last: it becomes a `Call`, and gets its headers here.

Most requests of a busy instance are one kind: a plain POST to a route that says how it is answered
`whole` (access.py). Those need nothing of Flask's (no blueprint's hook, no CORS, no converter, no
stream), so they are answered here, by the same guards and the same function that the Flask view
calls; whatever is not so plain goes to Flask (ADR 7). Nothing that fails here is lost: it becomes
the same problem that Flask's error handlers make of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, current_app, request

from api import guards
from api.access import Access, access_of
from api.call import CALL, Call, current_call
from api.errors import CONTENT_TYPE, ProblemError
from api.parts import Service
from api.problems import problem_of
from api.telemetry import child, log_fields

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Any], Iterable[bytes]]

_FIXED_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "Cache-Control": "no-store",
}
_JSON = json.JSONEncoder(separators=(",", ":"))  # as Flask writes it
_STATUS_LINES = {status.value: f"{status.value} {status.phrase.upper()}" for status in HTTPStatus}

log = structlog.get_logger()


class Front:
    """The app as the server calls it."""

    def __init__(self, app: Flask) -> None:
        """Stand before `app`, whose parts are there already."""
        self._parts: Service = app.extensions["quillgate"]
        self._flask: Wsgi = app.wsgi_app
        cors = bool(self._parts.settings.cors_origins)
        # To every cache: another origin may get another answer.
        self._vary = [("Vary", "Origin")] if cors else []
        self.short: dict[str, Access] = {}  # path -> how it is answered here
        app.before_request(_check)
        app.after_request(_finish)
        app.register_error_handler(Exception, _problem)

    def answer_here(self, app: Flask) -> None:
        """Answer the app's `whole` routes here from now on."""
        for rule in app.url_map.iter_rules():
            access = access_of(app, rule.endpoint)
            if access is not None and access.whole is not None:
                self.short[rule.rule] = access

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        call = environ[CALL] = Call(environ, self._parts)
        token = log_fields.set(call.log_fields)
        try:
            access = self.short.get(environ["PATH_INFO"])
            if access is not None and _plain(environ):
                call.access = access
                answered = self._answer(call, access)
                if answered is not None:
                    status, content_type, body = answered
                    headers = _headers(call, content_type, len(body))
                    start_response(_STATUS_LINES[status], headers + self._vary)
                    return [body]
            return self._flask(environ, _with_headers(call, start_response))
        finally:
            log_fields.reset(token)

    def _answer(self, call: Call, access: Access) -> tuple[int, str, bytes] | None:
        """Return status, content type and body; None: Flask has to do it."""
        path = call.environ["PATH_INFO"]
        try:
            guards.check(call)
            document = access.whole(call)  # type: ignore[misc] # only routes that have one come here
            if document is None:
                return None
            body = (_JSON.encode(document) + "\n").encode("ascii")
        except Exception as exc:  # noqa: BLE001 - as Flask's own last handler
            problem = problem_of(exc, call)
            _note_problem(call, problem)
            call.headers.update(problem.headers)
            _note_answer(call, path, problem.status)
            return problem.status, CONTENT_TYPE, problem.body(call.request_id)
        _note_answer(call, path, 200)
        return 200, "application/json", body


def _plain(environ: Environ) -> bool:
    """Whether nothing about the request asks for what only Flask does."""
    return (
        environ["REQUEST_METHOD"] == "POST"
        and not environ.get("QUERY_STRING")
        and "HTTP_ORIGIN" not in environ
        and "event-stream" not in environ.get("HTTP_ACCEPT", "").lower()
    )


def _note_problem(call: Call, problem: ProblemError) -> None:
    """Count what a call is refused or failed with, and keep it for the call's line."""
    child(call.parts.metrics.problems, problem.code).inc()
    call.problem = problem


def _note_answer(call: Call, route: str, status: int) -> None:
    """Count the answer; write the call's one line unless a generation has its own (run.py)."""
    access = call.access
    child(call.parts.metrics.requests, route, status).inc()
    if access is not None and not (access.keyed and (status >= 400 or not access.generates)):
        return
    line = {
        "method": call.environ["REQUEST_METHOD"],
        "route": route,
        "status": status,
        "address": call.address,
        "ms": round((call.parts.monotonic() - call.started) * 1000, 1),
    }
    if call.problem is not None:
        line["code"] = call.problem.code
        if call.problem.reason is not None:
            line["reason"] = call.problem.reason
    write = log.info if status < 500 and status not in {401, 403} else log.warning
    write("request", **line)


def _check() -> None:
    """Flask's first hook: what stands before every route that Flask found."""
    if request.routing_exception is not None:
        return  # Flask answers 404 or 405
    call = current_call()
    call.access = access_of(current_app, request.endpoint or "")
    guards.check(call)


def _finish(response: Response) -> Response:
    rule = request.url_rule
    _note_answer(current_call(), rule.rule if rule is not None else "none", response.status_code)
    return response


def _problem(error: Exception) -> Response:
    """Flask's last word on an exception, which is the front's as well."""
    call = current_call()
    problem = problem_of(error, call)
    _note_problem(call, problem)
    return Response(
        problem.body(call.request_id),
        status=problem.status,
        headers=problem.headers,
        content_type=CONTENT_TYPE,
    )


def _headers(call: Call, content_type: str, length: int) -> list[tuple[str, str]]:
    return [
        ("Content-Type", content_type),
        ("Content-Length", str(length)),
        *_FIXED_HEADERS.items(),
        *call.headers.items(),
        ("X-Request-Id", call.request_id),
    ]


def _with_headers(call: Call, start_response: Any) -> Callable[..., Any]:
    """Return a start_response that puts on the headers of every answer, unless they are there."""

    def begin(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        ours: Mapping[str, str] = {
            **_FIXED_HEADERS,
            **call.headers,
            "X-Request-Id": call.request_id,
        }
        present = {name.lower() for name, _ in headers}
        headers += [item for item in ours.items() if item[0].lower() not in present]
        return start_response(status, headers, exc_info)

    return begin
