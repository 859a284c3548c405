"""The official `openai` client works against `/v1` unchanged."""

from __future__ import annotations

import openai
import pytest


@pytest.fixture
def client(live_api, fresh_key):
    with openai.OpenAI(
        api_key=fresh_key(), base_url=f"{live_api.server.url}/v1", max_retries=0
    ) as made:
        yield made


def test_models(live_api, client):
    """The one model is listed, and says which arithmetic it runs."""
    [model] = client.models.list().data
    assert model.id == live_api.server.get("/health").json()["model"]
    assert model.mode


def test_a_completion(live_api, client):
    """The text is that of /generate for the same seed; tokens are characters."""
    answer = client.completions.create(
        model=client.models.list().data[0].id, prompt="And", max_tokens=50, seed=4, temperature=0.8
    )
    same = live_api.server.post("/generate", client.api_key, prompt="And", seed=4, num_chars=50)
    assert answer.choices[0].text == same.json()["text"]
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 50
    assert answer.usage.total_tokens == 53


def test_the_model_says_which_arithmetic_runs(client):
    """The list tells the mode that runs, never `auto`, and what could be asked for instead."""
    model = client.models.list().data[0]
    assert model.mode == "int8"
    assert {"auto", "int8", "fp32", "cuda"} == set(model.modes)


def test_a_streamed_completion(client):
    """Chunks add up to the same text; the usage comes last when it is asked for."""
    model = client.models.list().data[0].id
    asked = {"model": model, "prompt": "And", "max_tokens": 80, "seed": 4, "stop": "zzz"}
    whole = client.completions.create(**asked).choices[0].text
    chunks = list(
        client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage.completion_tokens == len(whole)


def test_refusals_are_the_clients_own_exceptions(live_api, client):
    """A bad key, a bad field and an impossible length raise what users of the client expect."""
    stranger = client.with_options(api_key="qg_live_nobody")
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    model = client.models.list().data[0].id
    for wrong in ({"temperature": 9}, {"n": 2}, {"max_tokens": 10**9}, {"model": "gpt-5"}):
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            client.completions.create(**{"model": model, "prompt": "And", **wrong})
        assert caught.value.body["code"] in {"invalid_request", "exceeds_plan"}


def test_a_rate_limit_is_retried_by_the_client(live_api):
    """The client waits as long as it is told, and then gets its text."""
    key = live_api.issue(plan="free")["key"]
    with openai.OpenAI(api_key=key, base_url=f"{live_api.server.url}/v1", max_retries=5) as patient:
        model = patient.models.list().data[0].id
        for _ in range(12):
            answer = patient.completions.create(model=model, prompt="And", max_tokens=1)
            assert len(answer.choices[0].text) == 1
