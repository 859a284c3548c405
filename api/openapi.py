"""The OpenAPI 3.1 document, made from what the code itself says: schemas, policies, the catalogue.

An operation is described where its view is: the docstring's first line is its summary, `Access`
its security and its answers.
"""

from __future__ import annotations

import re
from typing import Any

from flask import Flask

from api import VERSION
from api.access import Access, access_of
from api.errors import CATALOGUE, CONTENT_TYPE
from api.throttle import PUBLIC_READS_USED_UP
from auth.principal import Scope

_PARAMETER = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")
_REF = "#/components/schemas/{model}"

PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": list(CATALOGUE)},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}

# Refusals that any keyed route can give, and those of a route with a body or a generation.
_KEYED = ("invalid_key", "missing_scope", "invalid_request", "rate_limited", "draining")
_BODY = ("malformed_json", "length_required", "unsupported_media_type", "invalid_request")


def document(app: Flask) -> dict[str, Any]:
    """Return the document for every route of the app."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        access = access_of(app, rule.endpoint)
        if access is None:
            continue
        path = _PARAMETER.sub(r"{\1}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            operation = _operation(app, rule.endpoint, access)
            parameters = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in sorted(rule.arguments)
            ]
            parameters += [
                {"name": name, "in": "query", "schema": {"type": "string"}}
                for name in sorted(access.query)
            ]
            if parameters:
                operation["parameters"] = parameters
            paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Quillgate",
            "version": VERSION,
            "description": "Text from a GPT of your own, behind keys and limits.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM, **_schemas(app)},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _schemas(app: Flask) -> dict[str, Any]:
    """Return the schema of every body that a route takes."""
    found: dict[str, Any] = {}
    for endpoint in app.view_functions:
        access = access_of(app, endpoint)
        if access is not None and access.body is not None:
            described = access.body.model_json_schema(ref_template=_REF)
            found.update(described.pop("$defs", {}))
            found[access.body.__name__] = described
    return found


def _operation(app: Flask, endpoint: str, access: Access) -> dict[str, Any]:
    view = app.view_functions[endpoint]
    summary, _, rest = (view.__doc__ or endpoint).strip().partition("\n")
    operation: dict[str, Any] = {
        "operationId": endpoint.replace(".", "_"),
        "summary": summary,
        "responses": _responses(access),
    }
    if rest.strip():
        operation["description"] = " ".join(rest.split())
    if access.keyed:
        operation["security"] = [{"key": []}, *([{"bearer": []}] if access.bearer else [])]
    if access.body is not None:
        reference = {"$ref": _REF.format(model=access.body.__name__)}
        operation["requestBody"] = {
            "required": access.body_required,
            "content": {"application/json": {"schema": reference}},
        }
    return operation


def _responses(access: Access) -> dict[str, Any]:
    codes: list[str] = ["internal_error"]
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    details = {code: problem.detail for code, problem in CATALOGUE.items()}
    if access.by_address:
        codes += ["rate_limited"]
        details["rate_limited"] = PUBLIC_READS_USED_UP
    if access.keyed:
        codes += [
            *_KEYED,
            "body_too_large",
            "address_not_allowed",
            "tenant_disabled",
            "too_many_failures",
        ]
        codes += ["limiter_unavailable", "keyring_unavailable", "unknown_plan"]
    if access.body is not None:
        codes += _BODY
    if access.scope is Scope.ADMIN or access.scope is Scope.KEY_ROTATE:
        codes += ["not_found", "conflict"]
    if access.generates:
        codes += ["prompt_not_encodable", "exceeds_plan", "quota_exceeded", "too_many_concurrent"]
        codes += ["overloaded", "model_loading", "request_in_progress", "idempotency_key_reused"]
        content["text/event-stream"] = {"schema": {"type": "string"}}
    responses: dict[str, Any] = {"200": {"description": "Done.", "content": content}}
    if access.probe:
        responses["503"] = {"description": "No: the body says what is missing.", "content": content}
    for status in sorted({CATALOGUE[code].status for code in codes}):
        meant = [code for code in dict.fromkeys(codes) if CATALOGUE[code].status == status]
        responses[str(status)] = {
            "description": " ".join(f"`{c}`: {details[c]}" for c in meant),
            "content": {CONTENT_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
        }
    return responses
