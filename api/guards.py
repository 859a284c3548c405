"""What stands before every route, in order: id, routing, drain, body size, key, scope, query.

What later code knows of the caller is `g.principal`. A bad key costs its sender's address one of
its allowed failures (throttle.py); nothing here charges the key's plan: that is admission.py,
after the body was read and the cost is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from flask import Flask, Request, Response, current_app, g, request
from werkzeug.exceptions import ClientDisconnected

from api import trace_context
from api.access import Access, access_of, current_access
from api.errors import FieldError, ProblemError
from api.ids import unique
from api.parts import Service, service
from api.schemas import B, parse, shown_field
from api.telemetry import child
from auth.admin import Admin
from auth.audit import Actor
from auth.errors import (
    AddressNotAllowedError,
    InvalidKeyError,
    KeyringUnavailableError,
    TenantDisabledError,
    UnknownPlanError,
)
from auth.failures import UNKNOWN
from auth.principal import Principal, Scope

MAX_BODY_BYTES = 16 * 1024
HEADERS = "quillgate.headers"  # environ: what goes on the answer at the very end
RECEIVED = "quillgate.received"  # environ: what the worker wants called when a body was read
OUR_KEYS = "qg_"  # how every key begins (contract section 3)
# An inbound id is kept when it cannot hurt a log line or a header.
REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}(%[0-9A-Za-z]{1,15})?")
WITH_PORT = re.compile(r"([0-9.]{7,15}):[0-9]{1,5}|\[([^\]]+)\](?::[0-9]{1,5})?")

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]

log = structlog.get_logger()


def register(app: Flask) -> None:
    app.before_request(_guard)
    app.after_request(_finish)
    app.wsgi_app = _with_headers(app.wsgi_app)  # type: ignore[assignment, method-assign] # the documented way to wrap


def json_body(schema: type[B]) -> B:
    """Return the request's body as `schema`. Raise ProblemError 400, 422 or 503 (draining)."""
    try:
        body = request.get_data(cache=False)
    except ClientDisconnected:
        body = b""
    request.environ.get(RECEIVED, lambda: None)()
    if len(body) != (content_length(request.environ) or 0):
        if service().lifecycle.draining:  # this process cut it off: no fault of the caller's
            raise ProblemError("draining")
        raise ProblemError("bad_request", "The body is shorter than its Content-Length.")
    if not body and not current_access().body_required:
        body = b"{}"
    return parse(schema, body)


def flag(name: str) -> bool:
    """Return a query parameter that is true or false. Raise ProblemError invalid_request."""
    text = request.args.get(name, "false")
    if text not in ("true", "false"):
        raise ProblemError("invalid_request", errors=[FieldError(name, "must be true or false")])
    return text == "true"


def _guard() -> None:
    # The proxies look up the context at each touch: once is enough here, on every request's road.
    asked, known, parts = request._get_current_object(), g._get_current_object(), service()  # type: ignore[attr-defined] # noqa: SLF001 - documented, but in no stub
    _begin(asked.environ, known, parts)
    if asked.routing_exception is not None:
        return  # Flask answers 404 or 405
    access = current_access()
    if parts.lifecycle.draining and not access.while_draining:
        raise ProblemError("draining")
    if asked.method == "OPTIONS":
        return  # a CORS preflight has no key and no body; without CORS there is no such route
    if access.by_address:
        parts.throttle.count_public_read()
    _check_body_size(asked, access)
    if access.keyed:
        known.principal = authenticate(parts, presented_key(bearer=access.bearer))
        check_scope(known.principal, access.scope)
        _check_query(asked, access)
    _check_media_type(asked, access)


def _begin(environ: dict[str, Any], known: Any, parts: Service) -> None:
    inbound = environ.get("HTTP_X_REQUEST_ID", "")
    request_id = inbound if REQUEST_ID.fullmatch(inbound) else unique(32)
    known.request_id = request_id
    known.started = parts.monotonic()
    known.answer_headers = {}
    known.log_fields = {"request_id": request_id}
    known.trace = trace_context.of(environ)
    if known.trace is not None:
        known.log_fields |= known.trace.log_fields(parts.settings.auth.gcp_project)


def _check_body_size(asked: Request, access: Access) -> None:
    """Refuse before a byte is read; Flask would cut a chunked body short without a word."""
    if "HTTP_TRANSFER_ENCODING" in asked.environ:
        raise ProblemError("length_required")
    length = content_length(asked.environ)
    if length is None and access.body is not None and access.body_required:
        raise ProblemError("length_required")
    if length is not None and length > MAX_BODY_BYTES:
        raise ProblemError("body_too_large")


def _check_query(asked: Request, access: Access) -> None:
    """Refuse what is not known or given twice: `?dryrun=1`, ignored, would be charged for."""
    if not asked.query_string:
        return
    errors = []
    for name, values in asked.args.lists():
        if name not in access.query:
            errors.append(FieldError(shown_field(name), "This parameter is not known"))
        elif len(values) > 1:
            errors.append(FieldError(name, "must be given once"))
    if errors:
        raise ProblemError("invalid_request", errors=errors)


def content_length(environ: dict[str, Any]) -> int | None:
    """Return what the request says its body has; gunicorn has refused what is no number."""
    length = environ.get("CONTENT_LENGTH", "")
    return int(length) if length.isdecimal() else None


def _check_media_type(asked: Request, access: Access) -> None:
    if access.body is None or (not access.body_required and not content_length(asked.environ)):
        return
    if asked.environ.get("CONTENT_TYPE") == "application/json":
        return  # as nearly everybody spells it
    if asked.mimetype != "application/json":
        raise ProblemError("unsupported_media_type", headers={"Accept": "application/json"})


def presented_key(*, bearer: bool) -> str | None:
    """Return the one key on the request. Raise ProblemError invalid_key if there are more."""
    environ = request.environ
    key: str | None = environ.get("HTTP_X_API_KEY")
    if "HTTP_AUTHORIZATION" in environ:
        scheme, _, token = environ["HTTP_AUTHORIZATION"].partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        # Where no bearer key is read, one of ours beside the other is still a second key; a
        # platform's own token (Cloud Run's IAM) is not.
        if token and key is not None and (bearer or token.startswith(OUR_KEYS)):
            raise refuse_key(service(), "more_than_one")
        if token and bearer:
            key = token
    if key is not None and "," in key:  # WSGI joins repeated fields by comma
        raise refuse_key(service(), "more_than_one")
    return key


def reauthenticate(parts: Service) -> Principal:
    """Check the request's key again, scope and all: the keyring is newer than it was."""
    access = current_access()
    principal = authenticate(parts, presented_key(bearer=access.bearer))
    check_scope(principal, access.scope)
    return principal


def authenticate(parts: Service, key: str | None) -> Principal:
    """Return who holds the key. Raise ProblemError 401, 403, 429 or 503."""
    try:
        # Too many bad keys from an address: the next one costs no read of Redis.
        look_up = not parts.throttle.blocked()
        principal = parts.keyring.authenticate(key, address(), parts.clock(), look_up=look_up)
    except InvalidKeyError as exc:
        raise refuse_key(parts, exc.reason.value) from exc
    except KeyringUnavailableError as exc:
        raise ProblemError("keyring_unavailable", reason=str(exc)) from exc
    except AddressNotAllowedError as exc:
        raise ProblemError("address_not_allowed") from exc
    except UnknownPlanError as exc:
        raise ProblemError("unknown_plan", reason=str(exc)) from exc
    except TenantDisabledError as exc:
        raise ProblemError("tenant_disabled") from exc
    g.log_fields.update(tenant=principal.tenant, key_id=principal.key_id)
    if principal.expires_at is not None:
        g.answer_headers.update(parts.expiry.headers(principal, parts.clock()))
    return principal


def refuse_key(parts: Service, reason: str) -> ProblemError:
    """Count a refused key and return the one 401 there is, or 429 for too many from here."""
    parts.metrics.auth_failures.labels(reason=reason).inc()
    parts.throttle.count_failed_key(reason)
    challenge = {"WWW-Authenticate": 'ApiKey realm="quillgate", header="X-API-Key"'}
    return ProblemError("invalid_key", headers=challenge, reason=reason)


def acting_admin() -> Admin:
    """Return the admin's operations, recorded as the caller's."""
    return service().admin(Actor(f"key:{g.principal.key_id}", address()))


def check_scope(principal: Principal, scope: Scope | None) -> None:
    if scope is not None and scope not in principal.scopes:
        raise ProblemError("missing_scope", f'The API key lacks the scope "{scope.value}".')


def address() -> str:
    """Return the caller's address; ProxyFix has put the trusted hop there.

    Some proxies put the port behind it. Where no proxy stands before us after all, it is whatever
    the caller wrote: a key, perhaps.
    """
    text: str = request.environ.get("REMOTE_ADDR") or ""
    with_port = WITH_PORT.fullmatch(text)
    if with_port is not None:
        text = with_port[1] or with_port[2]
    return text if ADDRESS.fullmatch(text) else UNKNOWN


_FIXED_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "Cache-Control": "no-store",
}


def _finish(response: Response) -> Response:
    parts, asked = service(), request._get_current_object()  # type: ignore[attr-defined] # noqa: SLF001 - as above
    asked.environ[HEADERS] = {**_FIXED_HEADERS, **g.answer_headers, "X-Request-Id": g.request_id}
    rule, status = asked.url_rule, response.status_code
    route = rule.rule if rule is not None else "none"
    child(parts.metrics.requests, route, status).inc()
    access = access_of(current_app, rule.endpoint) if rule is not None else None
    if access is None or (access.keyed and (status >= 400 or not access.generates)):
        _log_request(parts, route, status)
    return response


def _with_headers(app: Wsgi) -> Wsgi:
    """Put on the headers of every answer where they are a plain list, unless they are there."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def begin(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            present = {name.lower() for name, _ in headers}
            ours: dict[str, str] = environ.get(HEADERS, {})
            headers += [item for item in ours.items() if item[0].lower() not in present]
            return start_response(status, headers, exc_info)

        return app(environ, begin)

    return answer


def _log_request(parts: Service, route: str, status: int) -> None:
    """Write the one line of a request; a generation has its own (run.py)."""
    line = {
        "method": request.method,
        "route": route,
        "status": status,
        "address": address(),
        "ms": round((parts.monotonic() - g.started) * 1000, 1),
    }
    problem: ProblemError | None = g.get("problem")
    if problem is not None:
        line["code"] = problem.code
        if problem.reason is not None:
            line["reason"] = problem.reason
    write = log.info if status < 500 and status not in {401, 403} else log.warning
    write("request", **line)
