"""One shape for every error: RFC 9457 with our code and the request's id, and nothing sent back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api.errors import CATALOGUE, CONTENT_TYPE, ProblemError
from api.gpt.request import EngineRefusedError
from api.limits.policy import Decision
from tests.support.api_bench import GOOD

CANARY = "Zcanary"


def check(answer, code):
    assert answer.content_type == CONTENT_TYPE
    body = answer.get_json()
    assert set(body) - {"errors"} == {"type", "title", "status", "detail", "code", "request_id"}
    assert body["code"] == code
    assert body["status"] == answer.status_code == CATALOGUE[code].status
    assert body["title"] == CATALOGUE[code].title
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert body["type"].endswith(code)
    for error in body.get("errors", []):
        assert set(error) == {"field", "message"}
    if answer.status_code == 503:
        assert int(answer.headers["Retry-After"]) >= 1
        assert int(answer.headers["retry-after-ms"]) >= 1
    assert CANARY not in answer.text
    assert CANARY not in str(answer.headers)


def post(bench, body, key=GOOD, **headers):
    return bench.client.post(
        "/generate",
        data=body,
        content_type="application/json",
        headers={"X-API-Key": key, **headers},
    )


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("malformed_json", '{"prompt": "Zcanary"'),
        ("invalid_request", '{"prompt": ["Zcanary"]}'),
        ("invalid_request", '{"num_chars": "Zcanary"}'),
        ("invalid_request", '{"prompt": "Zcanary", "num_chars": 1e20}'),
        ("body_too_large", json.dumps({"prompt": CANARY * 4000})),
    ],
)
def test_refused_input(bench, code, body):
    """Bad input has the shape and is not repeated."""
    check(post(bench, body), code)


def test_refused_keys(bench):
    """So has a bad key, which is not repeated either."""
    check(post(bench, "{}", key=f"qg_live_{CANARY}"), "invalid_key")


@pytest.mark.parametrize(
    "code",
    [
        "exceeds_plan",
        "rate_limited",
        "quota_exceeded",
        "too_many_concurrent",
        "limiter_unavailable",
    ],
)
def test_refused_by_the_limiter(bench, code):
    """So has every refusal of the limiter."""
    bench.limiter.refusal = Decision(lease=None, code=code, retry_after_ms=10)
    check(post(bench, '{"prompt": "Zcanary"}'), code)


@pytest.mark.parametrize("code", ["overloaded", "draining", "model_loading"])
def test_refused_by_the_engine(bench, code):
    """So has every refusal of the engine."""
    bench.engine.refuse = EngineRefusedError(code, 1)
    check(post(bench, '{"prompt": "Zcanary"}'), code)


def test_routing_errors(bench):
    """So have an unknown path and a wrong method."""
    check(bench.client.get(f"/{CANARY}"), "not_found")
    check(bench.client.put("/generate"), "method_not_allowed")


def test_the_last_resort(bench):
    """A fault that nobody foresaw says nothing of itself."""
    bench.keyring.answer = RuntimeError(f"{CANARY} in a message")
    check(post(bench, "{}"), "internal_error")


def test_the_catalogue_is_the_contract():
    """Every code of contract section 4 is there with its status."""
    documented = {
        400: {"malformed_json"},
        401: {"invalid_key"},
        403: {"missing_scope", "address_not_allowed", "tenant_disabled"},
        404: {"not_found"},
        405: {"method_not_allowed"},
        411: {"length_required"},
        413: {"body_too_large"},
        415: {"unsupported_media_type"},
        422: {"invalid_request", "prompt_not_encodable", "exceeds_plan"},
        429: {"rate_limited", "quota_exceeded", "too_many_concurrent", "too_many_failures"},
        503: {"overloaded", "draining", "limiter_unavailable", "model_loading"},
    }
    for status, codes in documented.items():
        for code in codes:
            assert CATALOGUE[code].status == status


def test_every_code_in_the_source_is_in_the_catalogue():
    """A code that is raised somewhere but not in the catalogue would be a 500."""
    with pytest.raises(KeyError):
        ProblemError("no_such_code")
    source = "".join(path.read_text() for path in Path("api").rglob("*.py"))
    for code in CATALOGUE:
        assert f'"{code}"' in source
