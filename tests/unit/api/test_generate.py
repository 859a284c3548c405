"""`POST /generate`, contract section 5, with an engine that a test decides."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.gpt.request import EngineRefusedError, FinishReason
from api.limits.policy import Decision
from auth.errors import TenantDisabledError
from tests.support.api_bench import GOOD
from tests.support.scripted_engine import ScriptedGeneration


def events(body: bytes) -> list[tuple[str, Any]]:
    """Read a whole stream: comments as (":", text), events as (name, data)."""
    found: list[tuple[str, Any]] = []
    for block in body.decode().split("\n\n"):
        if block.startswith(":"):
            found.append((":", block[1:].strip()))
        elif block:
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_answers_with_the_documented_fields(bench):
    """The answer has every field of contract section 5, and the text is as long as was asked."""
    answer = bench.generate(prompt="O Romeo", seed=3, num_chars=5, temperature=0.5)
    assert answer.status_code == 200
    body = answer.get_json()
    assert body.pop("id").startswith("gen_")
    timing = body.pop("timing_ms")
    assert set(timing) == {"queued", "first_char", "total"}
    assert body == {
        "text": "defgh",
        "model": "scripted",
        "seed": 3,
        "temperature": 0.5,
        "num_chars": 5,
        "finish_reason": "length",
        "usage": {"prompt_chars": 7, "generated_chars": 5, "charged_chars": 5},
    }
    assert bench.limiter.settled == [(5, "length")]


def test_an_absent_seed_is_drawn_and_returned(bench):
    """Without a seed each request gets one of its own, and is told which."""
    seeds = {bench.generate(num_chars=1).get_json()["seed"] for _ in range(5)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("how", ["field", "header"])
def test_streams_open_text_and_one_done(bench, how):
    """A stream is `: open`, then text that adds up, then exactly one `done` without the text."""
    headers = {"X-API-Key": "the good key"}
    body: dict[str, Any] = {"seed": 0, "num_chars": 25}
    if how == "field":
        body["stream"] = True
    else:
        headers["Accept"] = "text/event-stream"
    answer = bench.client.post("/generate", json=body, headers=headers)
    assert answer.content_type == "text/event-stream; charset=utf-8"
    found = events(answer.data)
    assert found[0] == (":", "open")
    assert [name for name, _ in found].count("done") == 1
    assert found[-1][0] == "done"
    assert (
        "".join(data["text"] for name, data in found if name == "text")
        == "abcdefghij" * 2 + "abcde"
    )
    assert "text" not in found[-1][1]
    assert found[-1][1]["usage"]["charged_chars"] == 25
    assert bench.limiter.settled == [(25, "length")]


def test_a_failing_engine_ends_a_stream_with_one_error_event(bench):
    """What was delivered before the engine failed is charged, the rest is not."""
    bench.engine.fail_after = 3
    found = events(bench.generate(seed=0, num_chars=10, stream=True).data)
    assert found[-1][0] == "error"
    assert found[-1][1]["code"] == "internal_error"
    assert [name for name, _ in found if name in {"done", "error"}] == ["error"]
    assert bench.limiter.settled == [(3, "error")]


def test_a_failing_engine_is_a_500_that_costs_nothing(bench):
    """No text came back, so nothing is charged; the reason stays inside."""
    bench.engine.fail_after = 3
    answer = bench.generate(num_chars=10)
    assert answer.status_code == 500
    assert answer.get_json()["code"] == "internal_error"
    assert "scripted" not in answer.text
    assert bench.limiter.settled == [(0, "error")]


def test_a_full_queue_is_503_and_gives_the_charge_back(bench):
    """The engine's refusal is answered with its own Retry-After and settled as refused."""
    bench.engine.refuse = EngineRefusedError("overloaded", 2.5)
    answer = bench.generate(num_chars=10)
    assert answer.status_code == 503
    assert answer.get_json()["code"] == "overloaded"
    assert answer.headers["Retry-After"] == "3"
    assert answer.headers["retry-after-ms"] == "2500"
    assert bench.limiter.settled == [(0, "refused")]


def test_characters_without_a_token_are_named_and_cost_nothing(bench):
    """The refusal names each character once, and the whole charge goes back."""
    answer = bench.generate(prompt="2 bee or not 22 bee 7")
    assert answer.status_code == 422
    assert answer.get_json()["code"] == "prompt_not_encodable"
    assert answer.get_json()["detail"] == 'the model has no token for "2", "7".'
    assert bench.limiter.settled == [(0, "refused")]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("rate_limited", 429),
        ("quota_exceeded", 429),
        ("too_many_concurrent", 429),
        ("limiter_unavailable", 503),
        ("exceeds_plan", 422),
        ("invalid_key", 401),
    ],
)
def test_a_refusal_of_the_limiter_is_its_problem(bench, code, status):
    """Each code of the limiter has its status; waiting times are told twice."""
    wait = 1500 if status in {429, 503} else None
    binding = "chars_per_minute"
    bench.limiter.refusal = Decision(lease=None, code=code, binding=binding, retry_after_ms=wait)
    answer = bench.generate(num_chars=10)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["code"] == code
    if wait:
        assert answer.headers["Retry-After"] == "2"
        assert answer.headers["retry-after-ms"] == "1500"
    if code == "exceeds_plan":
        assert answer.headers["x-should-retry"] == "false"
    assert bench.engine.submitted == []


def test_more_than_the_plan_allows_says_what_it_allows(bench):
    """A length that the plan can never admit is 422, not 429, and told not to be retried."""
    bench.limiter.refusal = Decision(lease=None, code="exceeds_plan", binding="max_num_chars")
    answer = bench.generate(num_chars=10**9)
    assert answer.status_code == 422
    assert answer.get_json()["code"] == "exceeds_plan"
    assert answer.get_json()["detail"] == 'The plan\'s "max_num_chars" is 10000.'
    assert answer.headers["x-should-retry"] == "false"


def test_what_was_admitted_runs_to_its_end(bench):
    """A stream goes on, charged, after its tenant is disabled; the next request is refused."""
    body = {"num_chars": 30, "stream": True, "seed": 0}
    answer = bench.client.post("/generate", json=body, headers={"X-API-Key": GOOD})
    pieces = iter(answer.response)
    assert next(pieces).startswith(b":")
    bench.keyring.answer = TenantDisabledError("acme", "AAAAAAAAAAAA")
    assert bench.generate(num_chars=1).status_code == 403
    assert b"event: done" in b"".join(pieces)
    assert bench.limiter.settled == [(30, "length")]


def test_a_reader_who_stops_ends_the_generation(bench):
    """Closing the stream aborts in the engine and settles once, with what was generated."""
    bench.engine.seconds_per_char = 0.005
    answer = bench.generate(num_chars=10_000, stream=True, seed=0)
    chunks = answer.iter_encoded()
    for _ in range(3):
        next(chunks)
    answer.close()
    [generation] = bench.engine.submitted
    assert generation.aborts
    [(used, finish)] = bench.limiter.settled
    assert finish == "aborted"
    assert 0 < used < 10_000
    assert used == generation.result().generated_chars


def test_a_stream_nobody_ever_reads_is_settled(bench):
    """A body whose iteration never began runs no `finally`; the charge comes back all the same."""
    bench.engine.seconds_per_char = 0.005
    with bench.app.test_request_context():
        pass
    answer = bench.client.post(
        "/generate",
        json={"num_chars": 10_000, "stream": True},
        headers={"X-API-Key": "the good key"},
        buffered=False,
    )
    answer.close()
    assert len(bench.limiter.settled) == 1
    assert not bench.engine.running


def test_what_was_never_started_is_a_refusal_and_not_an_empty_text(bench, monkeypatch):
    """A request whose deadline came while it waited is answered 503 with a time to come back, or
    the same as a stream's last event, and nothing is charged."""
    start = ScriptedGeneration.start

    def end_unstarted(generation):
        generation.stop(FinishReason.REFUSED)
        start(generation)

    monkeypatch.setattr(ScriptedGeneration, "start", end_unstarted)
    answer = bench.generate(num_chars=10)
    assert (answer.status_code, answer.get_json()["code"]) == (503, "overloaded")
    assert int(answer.headers["Retry-After"]) >= 1
    streamed = bench.generate(num_chars=10, stream=True).get_data()
    assert b"event: error" in streamed
    assert b"overloaded" in streamed
    assert bench.limiter.settled == [(0, "refused")] * 2
