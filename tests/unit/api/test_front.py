"""The front's short road and Flask's give one answer; what is not plain takes Flask's."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from api.call import Call
from api.expiry import EXPIRES_HEADER
from api.gpt.request import EngineRefusedError
from api.guards import RECEIVED
from api.idempotency import once
from api.limits.policy import Decision, LimitState
from api.schemas import GenerateRequest
from api.telemetry import log_fields
from auth.errors import (
    AddressNotAllowedError,
    InvalidKeyError,
    KeyRefusal,
    KeyringUnavailableError,
    TenantDisabledError,
)
from auth.principal import Rotation, SecretRole
from tests.support.api_bench import GOOD, PRINCIPAL

BY_FLASK = {"Origin": "https://example.org"}  # not plain; without CORS_ORIGINS it changes nothing
LIMITS = (LimitState("requests_per_minute", 10, 3, 12.0, 60),)
VARYING = {"timing_ms", "id", "seed"}


def both(bench, headers=None, **request):
    """Return what the short road and Flask say: status, headers, and the body's fixed fields."""
    said = []
    for extra in ({}, BY_FLASK):
        answer = bench.client.post(
            "/generate",
            headers={"X-API-Key": GOOD, "X-Request-Id": "same-id-0", **(headers or {}), **extra},
            **request,
        )
        body = {k: v for k, v in (answer.get_json() or {}).items() if k not in VARYING}
        kept = {k.lower(): v for k, v in answer.headers.items() if k != "Content-Length"}
        said.append((answer.status, kept, body))
    return said


def refuse(monkeypatch, bench, error):
    def submit(_request):
        raise error

    monkeypatch.setattr(bench.engine, "submit", submit)


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"num_chars": 5, "seed": 1}},
        {"json": {"seed": 3}},
        {"data": b"{", "content_type": "application/json"},
        {"data": b"[]", "content_type": "application/json; charset=utf-8"},
        {"data": b"{}", "content_type": "text/plain"},
        {"json": {"num_chars": 0}},
        {"json": {"nonsense": 1}},
        {"json": {"prompt": "x" * 17_000}},
        {"json": {}, "headers": {"X-API-Key": ""}},
        {"json": {}, "headers": {"X-API-Key": f"{GOOD},{GOOD}"}},
        {"json": {"seed": 3}, "headers": {"Authorization": f"Bearer {GOOD}"}},
        {"json": {}, "headers": {"Transfer-Encoding": "chunked"}},
        {"json": {}, "headers": {"Idempotency-Key": "\x7f"}},
    ],
)
@pytest.mark.parametrize("origins", ["", "https://a.example"])
def test_both_roads_say_the_same(make_bench, request_, origins):
    """Status, headers and body do not tell which road a request took, served or refused; nor where
    other pages than the one that asks may ask."""
    short, flask = both(make_bench(CORS_ORIGINS=origins), **request_)
    assert short == flask


@pytest.mark.parametrize(
    "answer",
    [
        InvalidKeyError(KeyRefusal.REVOKED),
        KeyringUnavailableError("no keyring"),
        AddressNotAllowedError("key"),
        TenantDisabledError("acme", "key"),
    ],
)
def test_both_roads_refuse_a_key_alike(bench, answer):
    """A refused key is told the same on both."""
    bench.keyring.answer = answer
    short, flask = both(bench, json={})
    assert short == flask
    assert not short[0].startswith("200")


@pytest.mark.parametrize(
    "decision",
    [
        Decision(None, "rate_limited", "requests_per_minute", 1200, LIMITS),
        Decision(None, "exceeds_plan", "max_num_chars", None, LIMITS),
        Decision(None, "invalid_key"),
        Decision(None, "limiter_unavailable", retry_after_ms=1000),
    ],
)
def test_both_roads_refuse_by_a_limit_alike(bench, decision):
    """A refusal by the limiter has the same headers and body on both."""
    bench.limiter.refusal = decision
    short, flask = both(bench, json={})
    assert short == flask
    assert not short[0].startswith("200")


@pytest.mark.parametrize("error", [EngineRefusedError("overloaded", 2.0), RuntimeError("a fault")])
def test_both_roads_fail_alike_and_give_the_charge_back(bench, monkeypatch, error):
    """What the engine refuses, or a fault of ours, is one problem on both and costs nothing."""
    refuse(monkeypatch, bench, error)
    short, flask = both(bench, json={})
    assert short == flask
    assert short[0][:3] in {"500", "503"}
    assert bench.limiter.settled == [(0, "refused"), (0, "refused")]


def test_an_answer_that_cannot_be_written_down_is_a_problem_too(bench):
    """Nothing that fails on the short road leaves it as anything but a problem."""
    short = bench.app.extensions["quillgate.front"].short
    short["/generate"] = replace(short["/generate"], whole=lambda _call: {"text": object()})
    answer = bench.generate()
    assert (answer.status_code, answer.get_json()["code"]) == (500, "internal_error")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_both_roads_warn_alike(bench):
    """A key that is about to expire and a secret that was rotated out are told of on both."""
    now = int(time.time())
    bench.keyring.answer = replace(
        PRINCIPAL,
        expires_at=now + 3600,
        secret_role=SecretRole.OLD,
        rotation=Rotation(started_at=now - 60, deadline=now + 600, grace_seconds=60),
    )
    bench.limiter.sunset_at = now + 600
    short, flask = both(bench, json={"seed": 3})
    assert short == flask
    assert {"deprecation", "sunset", EXPIRES_HEADER.lower()} <= short[1].keys()


def test_both_roads_drain_alike(bench):
    """New work is refused while the process ends, on both."""
    bench.app.extensions["quillgate"].lifecycle.drain(0)
    short, flask = both(bench, json={})
    assert short == flask
    assert short[0].startswith("503")


def test_a_plain_request_needs_no_flask(bench, monkeypatch):
    """The short road is what a plain request takes."""

    def no_flask(_environ, _start_response):
        raise AssertionError("Flask was called")

    monkeypatch.setattr(bench.app.extensions["quillgate.front"], "_flask", no_flask)
    assert bench.generate(num_chars=3).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/generate", {"stream": True, "num_chars": 3}, {}),
        ("/generate", {"num_chars": 3}, {"Accept": "text/event-stream"}),
        ("/generate?dry_run=1", {"num_chars": 3}, {}),
    ],
)
def test_what_is_not_plain_is_checked_once_by_either(bench, monkeypatch, path, body, headers):
    """A stream and a dry run go to Flask, and no key is checked twice on the way."""
    checked = []
    authenticate = bench.keyring.authenticate

    def counted(*args, **kwargs):
        checked.append(args)
        return authenticate(*args, **kwargs)

    monkeypatch.setattr(bench.keyring, "authenticate", counted)
    answer = bench.client.post(path, json=body, headers={"X-API-Key": GOOD, **headers})
    assert answer.status_code == 200
    assert ("event-stream" in answer.content_type) == ("dry_run" not in path)
    assert len(answer.data) > 0
    assert len(checked) == 1


@pytest.mark.parametrize(
    ("accept", "streamed"),
    [
        ("text/event-stream", True),
        ("application/json;q=0.5, Text/Event-Stream", True),
        ("text/event-stream;q=0, application/json", False),
        ("text/x-event-stream", False),
        ("*/*", False),
    ],
)
def test_events_are_for_those_who_accept_them(bench, accept, streamed):
    """However they spell it, and not for those who say that they do not."""
    headers = {"X-API-Key": GOOD, "Accept": accept}
    answer = bench.client.post("/generate", json={"num_chars": 3}, headers=headers)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/event-stream") == streamed


def test_caches_hear_of_origins_on_both_roads(make_bench):
    """With CORS on, every answer varies by its origin, also one to nobody's page."""
    bench = make_bench(CORS_ORIGINS="https://a.example")
    for headers, allowed in (({}, None), ({"Origin": "https://a.example"}, "https://a.example")):
        answer = bench.client.post("/generate", json={}, headers={"X-API-Key": GOOD, **headers})
        assert answer.headers["Vary"] == "Origin"
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed


@pytest.mark.parametrize("error", [ConnectionResetError(104), TimeoutError(110), OSError(113)])
@pytest.mark.parametrize("headers", [{}, BY_FLASK])
def test_a_body_that_cannot_be_read_is_no_fault_of_ours(bench, error, headers):
    """Whatever ends the line to the caller is a 400, and the worker hears that reading is over."""
    told = []

    class Broken:
        def read(self, *_):
            raise error

    answer = bench.client.post(
        "/generate",
        headers={"X-API-Key": GOOD, "Content-Type": "application/json", **headers},
        environ_overrides={
            "wsgi.input": Broken(),
            "CONTENT_LENGTH": "2",
            RECEIVED: lambda: told.append(1),
        },
    )
    assert (answer.status_code, answer.get_json()["code"]) == (400, "bad_request")
    assert told == [1]


def test_a_refused_key_is_not_told_when_it_would_have_expired(bench):
    """A key that Redis knows to be revoked is answered like one that never was."""
    bench.keyring.answer = replace(PRINCIPAL, expires_at=int(time.time()) + 3600)
    assert EXPIRES_HEADER in bench.generate(num_chars=3).headers
    bench.limiter.refusal = Decision(None, "invalid_key")
    answer = bench.generate(num_chars=3)
    assert answer.status_code == 401
    assert EXPIRES_HEADER not in answer.headers


def test_an_idempotency_key_knows_the_route_however_it_is_spelt(bench):
    """`//generate` is `/generate`: the request again is the request again."""
    digests, parts = set(), bench.app.extensions["quillgate"]
    for path in ("/generate", "//generate"):
        call = Call({"PATH_INFO": path, "HTTP_IDEMPOTENCY_KEY": "k"}, parts)
        call.principal = PRINCIPAL
        identified = once(call, GenerateRequest(), 7)
        assert identified is not None
        digests.add(identified.digest)
    assert len(digests) == 1


def test_nothing_of_a_request_is_left_for_the_next(bench):
    """The fields of a request's log lines end with it, on both roads."""
    both(bench, json={"num_chars": 3})
    assert log_fields.get() is None


def test_every_answer_is_counted_on_both_roads(bench):
    """The metric of answers knows the route and the status, whoever answered."""
    both(bench, json={"num_chars": 3})
    both(bench, json={"num_chars": 0})
    requests = bench.app.extensions["quillgate"].metrics.requests
    for status in (200, 422):
        assert requests.labels("/generate", str(status))._value.get() == 2
