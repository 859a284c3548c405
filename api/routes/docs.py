"""`/openapi.json`, and `/docs`: a page to read it, made here, with no script and nothing remote."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from flask import Blueprint, Response, current_app, jsonify

from api.access import public_by_address
from api.errors import CATALOGUE
from api.openapi import document

blueprint = Blueprint("docs", __name__)

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{background:#8882;padding:.1em .3em;border-radius:.2em}"
    "td,th{text-align:left;vertical-align:top;padding:.2rem 1rem .2rem 0}"
    ":root{color-scheme:light dark}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


@blueprint.get("/openapi.json")
@public_by_address
def openapi() -> Response:
    """Describe every route, in OpenAPI 3.1."""
    return jsonify(document(current_app))


@blueprint.get("/docs")
@public_by_address
def docs() -> Response:
    """Show the same to a person."""
    described = document(current_app)
    sections = [
        _operation(method, path, operation, described["components"]["schemas"])
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    ]
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Quillgate API</title>"
        "<meta name=viewport content='width=device-width'>"
        f"<style>{_STYLE}</style><h1>Quillgate API</h1>"
        "<p>The same for programs: <a href=/openapi.json>openapi.json</a>. The key goes in "
        "<code>X-API-Key</code>.</p>" + "".join(sections) + "<h2>Problems</h2>" + _problems()
    )
    return Response(
        page,
        content_type="text/html; charset=utf-8",
        headers={"Content-Security-Policy": _POLICY},
    )


def _operation(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    text = f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}"
    text += f" {escape(operation.get('description', ''))}</p>"
    if "requestBody" in operation:
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        text += _fields(schemas[reference.rpartition("/")[2]])
    rows = "".join(
        f"<tr><td>{status}<td>{_marked(answer['description'])}"
        for status, answer in operation["responses"].items()
    )
    return f"{text}<details><summary>Answers</summary><table>{rows}</table></details>"


def _fields(schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>"
        f"<td>{escape(_kind(field))}"
        f"<td>{escape(field.get('description', ''))}"
        f"<td>{'required' if name in required else escape(_default(field))}"
        for name, field in schema["properties"].items()
    )
    return f"<table>{rows}</table>"


def _default(field: dict[str, Any]) -> str:
    return f"default {json.dumps(field['default'])}" if field.get("default") is not None else ""


# What JSON Schema calls a bound, and what a person does.
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {}",
}


def _kind(field: dict[str, Any]) -> str:
    """Return a field's type and bounds: `integer, at least 1`; alternatives in their order."""
    if "anyOf" in field:
        return " or ".join(_kind(one) for one in field["anyOf"])
    if "enum" in field:
        return " or ".join(json.dumps(value) for value in field["enum"])
    kind = str(field.get("type", "object"))
    if kind == "array":
        kind = f"list of ({_kind(field['items'])})"
    bounds = [said.format(field[name]) for name, said in _BOUNDS.items() if name in field]
    return ", ".join([kind, *bounds])


def _problems() -> str:
    rows = "".join(
        f"<tr id={code}><td>{problem.status}<td><code>{code}</code><td>{escape(problem.detail)}"
        for code, problem in CATALOGUE.items()
    )
    return f"<table>{rows}</table></html>"


def _marked(description: str) -> str:
    """Turn the backticks of a description into code elements."""
    parts = escape(description).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
