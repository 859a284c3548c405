"""What stands before every route, in order: drain, body size, key, scope, query, media type.

What later code knows of the caller is the `Call`. A bad key costs its sender's address one of
its allowed failures (throttle.py); nothing here charges the key's plan: that is admission.py,
after the body was read and the cost is known.
"""

from __future__ import annotations

from typing import Any

from flask import request

from api.access import Access
from api.call import Call
from api.errors import FieldError, ProblemError
from api.expiry import EXPIRES_HEADER
from api.parts import Service
from api.schemas import B, parse, shown_field
from auth.admin import Admin
from auth.audit import Actor
from auth.errors import (
    AddressNotAllowedError,
    InvalidKeyError,
    KeyringUnavailableError,
    TenantDisabledError,
    UnknownPlanError,
)
from auth.principal import Principal, Scope

MAX_BODY_BYTES = 16 * 1024
RECEIVED = "quillgate.received"  # environ: what the worker wants called when a body was read
OUR_KEYS = "qg_"  # how every key begins (contract section 3)


def check(call: Call) -> None:
    """Let the call pass, its principal known, or raise ProblemError. Twice is as good as once."""
    if call.checked:
        return
    access, environ, parts = policy(call), call.environ, call.parts
    if parts.lifecycle.draining and not access.while_draining:
        raise ProblemError("draining")
    if environ["REQUEST_METHOD"] == "OPTIONS":
        return  # a CORS preflight has no key and no body; without CORS there is no such route
    if access.by_address:
        parts.throttle.count_public_read(call.address)
    length = content_length(environ)
    _check_body_size(environ, access, length)
    if access.keyed:
        call.principal = principal = authenticate(call)
        check_scope(principal, access.scope)
        if environ.get("QUERY_STRING"):
            _check_query(access)
    if access.body is not None and (access.body_required or length):
        _check_media_type(environ)
    call.checked = True


def policy(call: Call) -> Access:
    """Return who may call the route. Raise ProblemError where it does not say."""
    if call.access is None:
        raise ProblemError("not_found", reason="the route declares no access policy")
    return call.access


def read_body(call: Call) -> bytes:
    """Return the request's body. Raise ProblemError bad_request or draining if it was cut short."""
    if call.body is not None:
        return call.body
    environ, length = call.environ, content_length(call.environ) or 0
    try:
        # What waits for the rest of a body is cut off by the worker, and reads its end.
        body: bytes = environ["wsgi.input"].read(length) if length else b""
    except (OSError, ValueError):  # the line to the caller failed, in whatever way
        body = b""
    if RECEIVED in environ:
        environ[RECEIVED]()
    if len(body) != length:
        if call.parts.lifecycle.draining:  # this process cut it off: no fault of the caller's
            raise ProblemError("draining")
        raise ProblemError("bad_request", "The body is shorter than its Content-Length.")
    call.body = body
    return body


def json_body(call: Call, schema: type[B]) -> B:
    """Return the request's body as `schema`. Raise ProblemError 400, 422 or 503 (draining)."""
    body = read_body(call)
    if not body and not policy(call).body_required:
        body = b"{}"
    return parse(schema, body)


def flag(name: str) -> bool:
    """Return a query parameter that is true or false. Raise ProblemError invalid_request."""
    text = request.args.get(name, "false")
    if text not in ("true", "false"):
        raise ProblemError("invalid_request", errors=[FieldError(name, "must be true or false")])
    return text == "true"


def _check_body_size(environ: dict[str, Any], access: Access, length: int | None) -> None:
    """Refuse before a byte is read; Flask would cut a chunked body short without a word."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        raise ProblemError("length_required")
    if length is None:
        if access.body is not None and access.body_required:
            raise ProblemError("length_required")
    elif length > MAX_BODY_BYTES:
        raise ProblemError("body_too_large")


def _check_query(access: Access) -> None:
    """Refuse what is not known or given twice: `?dryrun=1`, ignored, would be charged for."""
    errors = []
    for name, values in request.args.lists():
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


def _check_media_type(environ: dict[str, Any]) -> None:
    content_type = environ.get("CONTENT_TYPE", "")
    if content_type == "application/json":
        return  # as nearly everybody spells it
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ProblemError("unsupported_media_type", headers={"Accept": "application/json"})


def presented_key(call: Call) -> str | None:
    """Return the one key on the request. Raise ProblemError invalid_key if there are more."""
    environ = call.environ
    key: str | None = environ.get("HTTP_X_API_KEY")
    if "HTTP_AUTHORIZATION" in environ:
        bearer = policy(call).bearer
        scheme, _, token = environ["HTTP_AUTHORIZATION"].partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        # Where no bearer key is read, one of ours beside the other is still a second key; a
        # platform's own token (Cloud Run's IAM) is not.
        if token and key is not None and (bearer or token.startswith(OUR_KEYS)):
            raise refuse_key(call, "more_than_one")
        if token and bearer:
            key = token
    if key is not None and "," in key:  # WSGI joins repeated fields by comma
        raise refuse_key(call, "more_than_one")
    return key


def reauthenticate(call: Call) -> Principal:
    """Check the request's key again, scope and all: the keyring is newer than it was."""
    principal = authenticate(call)
    check_scope(principal, policy(call).scope)
    return principal


def authenticate(call: Call) -> Principal:
    """Return who holds the call's key. Raise ProblemError 401, 403, 429 or 503."""
    parts, key = call.parts, presented_key(call)
    try:
        # Too many bad keys from an address: the next one costs no read of Redis.
        look_up = not parts.throttle.blocked(call.address)
        principal = parts.keyring.authenticate(key, call.address, parts.clock(), look_up=look_up)
    except InvalidKeyError as exc:
        raise refuse_key(call, exc.reason.value) from exc
    except KeyringUnavailableError as exc:
        raise ProblemError("keyring_unavailable", reason=str(exc)) from exc
    except AddressNotAllowedError as exc:
        raise ProblemError("address_not_allowed") from exc
    except UnknownPlanError as exc:
        raise ProblemError("unknown_plan", reason=str(exc)) from exc
    except TenantDisabledError as exc:
        raise ProblemError("tenant_disabled") from exc
    call.log_fields["tenant"], call.log_fields["key_id"] = principal.tenant, principal.key_id
    if principal.expires_at is not None:
        call.headers.update(parts.expiry.headers(principal, parts.clock()))
    return principal


def refuse_key(call: Call, reason: str) -> ProblemError:
    """Count a refused key and return the one 401 there is, or 429 for too many from here."""
    parts: Service = call.parts
    call.headers.pop(EXPIRES_HEADER, None)  # nothing tells that it existed
    parts.metrics.auth_failures.labels(reason=reason).inc()
    parts.throttle.count_failed_key(call.address, reason)
    challenge = {"WWW-Authenticate": 'ApiKey realm="quillgate", header="X-API-Key"'}
    return ProblemError("invalid_key", headers=challenge, reason=reason)


def acting_admin(call: Call) -> Admin:
    """Return the admin's operations, recorded as the caller's."""
    return call.parts.admin(Actor(f"key:{call.principal.key_id}", call.address))


def check_scope(principal: Principal, scope: Scope | None) -> None:
    if scope is not None and scope not in principal.scopes:
        raise ProblemError("missing_scope", f'The API key lacks the scope "{scope.value}".')
