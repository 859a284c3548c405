"""What stands before every route, in order: id, routing, drain, body size, key, scope.

What later code knows of the caller is `g.principal`. A bad key costs its sender's address one of
its allowed failures (throttle.py); nothing here charges the key's plan: that is admission.py,
after the body was read and the cost is known.
"""

from __future__ import annotations

import re
import secrets

import structlog
from flask import Flask, Response, current_app, g, request

from api.access import Access, access_of, current_access
from api.errors import FieldError, ProblemError
from api.parts import Service, service
from api.schemas import B, parse
from auth.admin import Admin
from auth.audit import Actor
from auth.errors import (
    AddressNotAllowedError,
    InvalidKeyError,
    KeyringUnavailableError,
    TenantDisabledError,
)
from auth.principal import Principal, Scope

MAX_BODY_BYTES = 16 * 1024
RECEIVED = "quillgate.received"  # environ: what the worker wants called when a body was read
OUR_KEYS = "qg_"  # how every key begins (contract section 3)
# An inbound id is kept when it cannot hurt a log line or a header.
REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")

log = structlog.get_logger()


def register(app: Flask) -> None:
    app.before_request(_begin)
    app.before_request(_guard)
    app.after_request(_finish_headers)


def json_body(schema: type[B]) -> B:
    """Return the request's body as `schema`. Raise ProblemError 400 or 422."""
    body = request.get_data(cache=False)
    request.environ.get(RECEIVED, lambda: None)()
    if len(body) != (request.content_length or 0):
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


def _begin() -> None:
    inbound = request.headers.get("X-Request-Id", "")
    g.request_id = inbound if REQUEST_ID.fullmatch(inbound) else secrets.token_hex(16)
    g.started = service().monotonic()
    g.answer_headers = {}
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _guard() -> None:
    if request.routing_exception is not None:
        return  # Flask answers 404 or 405
    parts, access = service(), current_access()
    if parts.lifecycle.draining and not access.while_draining:
        raise ProblemError("draining")
    if request.method == "OPTIONS":
        return  # a CORS preflight has no key and no body; without CORS there is no such route
    _check_body_size(access)
    if access.keyed:
        g.principal = authenticate(parts, presented_key(bearer=access.bearer))
        check_scope(g.principal, access.scope)
    _check_media_type(access)


def _check_body_size(access: Access) -> None:
    """Refuse before a byte is read; Flask would cut a chunked body short without a word."""
    if "Transfer-Encoding" in request.headers:
        raise ProblemError("length_required")
    length = request.content_length
    if length is None and access.body is not None and access.body_required:
        raise ProblemError("length_required")
    if length is not None and length > MAX_BODY_BYTES:
        raise ProblemError("body_too_large")


def _check_media_type(access: Access) -> None:
    if access.body is None or (not access.body_required and not request.content_length):
        return
    if request.mimetype != "application/json":
        raise ProblemError("unsupported_media_type", headers={"Accept": "application/json"})


def presented_key(*, bearer: bool) -> str | None:
    """Return the one key on the request. Raise ProblemError invalid_key if there are more."""
    found = request.headers.getlist("X-API-Key")
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip() if scheme.lower() == "bearer" else ""
    # Where no bearer key is read, one of ours beside the other is still a second key; a platform's
    # own token (Cloud Run's IAM) is not.
    if token and (bearer or (found and token.startswith(OUR_KEYS))):
        found.append(token)
    if len(found) > 1 or any("," in key for key in found):  # WSGI joins repeated fields by comma
        raise refuse_key(service(), "more_than_one")
    return found[0] if found else None


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
    except TenantDisabledError as exc:
        raise ProblemError("tenant_disabled") from exc
    structlog.contextvars.bind_contextvars(tenant=principal.tenant, key_id=principal.key_id)
    g.answer_headers.update(parts.expiry.headers(principal, parts.clock()))
    return principal


def refuse_key(parts: Service, reason: str) -> ProblemError:
    """Count a refused key and return the one 401 there is, or 429 for too many from here."""
    parts.metrics.auth_failures.labels(reason=reason).inc()
    parts.throttle.count_failed_key()
    challenge = {"WWW-Authenticate": 'ApiKey realm="quillgate", header="X-API-Key"'}
    return ProblemError("invalid_key", headers=challenge, reason=reason)


def acting_admin() -> Admin:
    """Return the admin's operations, recorded as the caller's."""
    return service().admin(Actor(f"key:{g.principal.key_id}", address()))


def check_scope(principal: Principal, scope: Scope | None) -> None:
    if scope is not None and scope not in principal.scopes:
        raise ProblemError("missing_scope", f'The API key lacks the scope "{scope.value}".')


def address() -> str:
    """Return the caller's address; ProxyFix has put the trusted hop there."""
    return request.remote_addr or ""


_FIXED_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
}


def _finish_headers(response: Response) -> Response:
    parts = service()
    for name, value in _FIXED_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Request-Id"] = g.request_id
    for name, value in g.answer_headers.items():
        response.headers.setdefault(name, value)
    route = request.url_rule.rule if request.url_rule is not None else "none"
    parts.metrics.requests.labels(route=route, status=response.status_code).inc()
    access = access_of(current_app, request.endpoint) if request.endpoint else None
    if access is None or (access.keyed and (response.status_code >= 400 or not access.generates)):
        _log_request(parts, route, response.status_code)
    return response


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
