"""Every error a caller can meet, as `application/problem+json` (RFC 9457).

The catalogue below is the whole public vocabulary: a code, its status, its title. `ProblemError`
carries one of them through the code; what it says to the caller (`detail`, `errors`) and what it
says to the log (`reason`) are different fields, so private text can never leave. No detail ever
repeats a key or a prompt. An exception nobody foresaw becomes `internal_error` with no detail.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of error: what is true of every occurrence."""

    status: int
    title: str
    detail: str  # said when an occurrence has nothing more precise to say


CATALOGUE: Mapping[str, Problem] = MappingProxyType(
    {
        "malformed_json": Problem(400, "Malformed JSON", "The body is not one JSON object."),
        "bad_request": Problem(400, "Bad request", "The request is not valid HTTP."),
        "invalid_key": Problem(401, "Invalid API key", "The API key is missing or not valid."),
        "missing_scope": Problem(403, "Missing scope", "The API key lacks a scope for this."),
        "address_not_allowed": Problem(
            403, "Address not allowed", "The API key may not be used from this address."
        ),
        "tenant_disabled": Problem(403, "Tenant disabled", "This tenant is disabled."),
        "not_found": Problem(404, "Not found", "There is nothing at this path."),
        "method_not_allowed": Problem(
            405, "Method not allowed", "This path does not support this method."
        ),
        "request_in_progress": Problem(
            409,
            "Request in progress",
            "The first request with this idempotency key is still running. Try again shortly.",
        ),
        "conflict": Problem(409, "Conflict", "The current state does not allow this."),
        "length_required": Problem(
            411, "Length required", "Send the body with a Content-Length, not chunked."
        ),
        "body_too_large": Problem(413, "Body too large", "The body may have at most 16 KiB."),
        "uri_too_long": Problem(414, "URI too long", "The request line is too long."),
        "unsupported_media_type": Problem(
            415, "Unsupported media type", "Send the body as application/json."
        ),
        "headers_too_large": Problem(
            431, "Header fields too large", "The header fields are too many or too long."
        ),
        "invalid_request": Problem(422, "Invalid request", "Some fields are not valid."),
        "idempotency_key_reused": Problem(
            422,
            "Idempotency key reused",
            "This idempotency key came with another request before: use a new one.",
        ),
        "prompt_not_encodable": Problem(
            422, "Prompt not encodable", "The model has no token for some characters."
        ),
        "exceeds_plan": Problem(
            422, "Exceeds plan", "The plan of this key can never admit this request."
        ),
        "rate_limited": Problem(429, "Rate limited", "A rate of this key's plan is used up."),
        "quota_exceeded": Problem(429, "Quota exceeded", "A quota of this key's plan is used up."),
        "too_many_concurrent": Problem(
            429, "Too many concurrent requests", "This key has its plan's requests under way."
        ),
        "too_many_failures": Problem(
            429, "Too many failures", "Too many bad API keys came from this address."
        ),
        "internal_error": Problem(500, "Internal error", "Something failed on our side."),
        "not_implemented": Problem(
            501, "Not implemented", "This transfer coding is not supported."
        ),
        "overloaded": Problem(503, "Overloaded", "The generator is busy. Try again shortly."),
        "draining": Problem(503, "Draining", "This instance is shutting down. Try again."),
        "limiter_unavailable": Problem(
            503, "Limiter unavailable", "Limits cannot be checked now. Try again shortly."
        ),
        "model_loading": Problem(503, "Model loading", "The model is not loaded yet. Try again."),
        "unknown_plan": Problem(
            503, "Unknown plan", "This service does not know the plan of the API key."
        ),
        "keyring_unavailable": Problem(
            503, "Keyring unavailable", "API keys cannot be checked now. Try again shortly."
        ),
    }
)

# RFC 9110, 15.6.4: a 503 says when to come back; used where nothing better is known.
DEFAULT_RETRY_AFTER_MS = 1000


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of the input, without the input."""

    field: str
    message: str


class ProblemError(Exception):
    """An error with a code of the catalogue, on its way to the caller."""

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        retry_after_ms: int | None = None,
        reason: str | None = None,
    ) -> None:
        self.code = code
        self.problem = CATALOGUE[code]
        self.detail = detail or self.problem.detail
        self.errors = tuple(errors)
        self.reason = reason  # for the log alone
        self.headers = dict(headers or {})
        if self.problem.status == 503 and retry_after_ms is None:
            retry_after_ms = DEFAULT_RETRY_AFTER_MS
        self.retry_after_ms = retry_after_ms
        if retry_after_ms is not None:
            self.headers.setdefault("Retry-After", str(max(1, -(-retry_after_ms // 1000))))
            self.headers.setdefault("retry-after-ms", str(retry_after_ms))
        super().__init__(code)

    @property
    def status(self) -> int:
        return self.problem.status

    def document(self, request_id: str) -> dict[str, Any]:
        """Return the body: the members of RFC 9457 and our `code`, `request_id`, `errors`."""
        body: dict[str, Any] = {
            "type": f"/docs#{self.code}",
            "title": self.problem.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }
        if self.errors:
            body["errors"] = [{"field": e.field, "message": e.message} for e in self.errors]
        return body

    def body(self, request_id: str) -> bytes:
        return (json.dumps(self.document(request_id)) + "\n").encode()
