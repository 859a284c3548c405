"""`POST /v1/completions` where it differs from `/generate`, with an engine that a test decides."""

from __future__ import annotations

import json

import pytest

from tests.support.api_bench import GOOD


def complete(bench, **fields):
    return bench.client.post(
        "/v1/completions", json=fields, headers={"Authorization": f"Bearer {GOOD}"}
    )


def test_the_answer_is_that_apis(bench):
    """Ids, choices and usage have that API's names; characters are its tokens."""
    body = complete(bench, model="scripted", prompt="ab", max_tokens=4, seed=0).get_json()
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {"index": 0, "text": "abcd", "finish_reason": "length", "logprobs": None}
    ]
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    assert bench.limiter.settled == [(4, "length")]


def test_a_stream_ends_in_done(bench):
    """Chunks, then the finish reason, then `[DONE]`; without being asked no usage."""
    text = complete(bench, prompt="ab", max_tokens=4, seed=0, stream=True).text
    events = [block for block in text.split("\n\n") if block.startswith("data: ")]
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(block.removeprefix("data: ")) for block in events[:-1]]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "abcd"
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert not any("usage" in chunk for chunk in chunks)


def test_an_error_in_a_stream_ends_it_instead(bench):
    """One `error`, which that client raises, and no `[DONE]`."""
    bench.engine.fail_after = 2
    text = complete(bench, prompt="ab", max_tokens=4, stream=True).text
    last = [block for block in text.split("\n\n") if block][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "internal_error"
    assert "[DONE]" not in text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("best_of", 2),
        ("echo", True),
        ("logprobs", 1),
        ("suffix", "x"),
        ("logit_bias", {"1": 1}),
        ("presence_penalty", 0.5),
        ("model", "another"),
        ("max_tokens", 0),
        ("messages", []),
    ],
)
def test_what_cannot_be_honoured_is_refused(bench, field, value):
    """A field that would change the text is refused by name, not ignored."""
    answer = complete(bench, prompt="ab", **{field: value})
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == field
    assert bench.limiter.acquired == []


def test_neutral_values_are_accepted(bench):
    """What a client sends by default costs nobody a refusal."""
    answer = complete(
        bench,
        prompt="ab",
        max_tokens=1,
        n=1,
        echo=False,
        logprobs=None,
        presence_penalty=0,
        user="u",
    )
    assert answer.status_code == 200
