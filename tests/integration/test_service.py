"""The real service from the outside: what a partner's program sees."""

from __future__ import annotations

import concurrent.futures
import json
import re
from email.utils import parsedate_to_datetime

import httpx
import pytest

from tests.support.live_api import LiveApi


def stream(live: LiveApi, key: str, **fields: object) -> list[tuple[str, str]]:
    """Return the events of a stream as (name or ":", data)."""
    found = []
    with httpx.stream(
        "POST",
        live.server.url + "/generate",
        headers={"X-API-Key": key},
        json={"stream": True, **fields},
        timeout=60,
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["x-accel-buffering"] == "no"
        answer.read()
        for block in answer.text.split("\n\n"):
            if block.startswith(":"):
                found.append((":", block[1:].strip()))
            elif block:
                name, data = block.split("\n")
                found.append((name.removeprefix("event: "), data.removeprefix("data: ")))
    return found


def test_the_same_seed_gives_the_same_text(live_api, fresh_key):
    """Twice alike, another seed other text, and n characters are a prefix of more."""
    key = fresh_key()
    first = live_api.server.post("/generate", key, seed=1, num_chars=120).json()
    again = live_api.server.post("/generate", key, seed=1, num_chars=120).json()
    longer = live_api.server.post("/generate", key, seed=1, num_chars=150).json()
    other = live_api.server.post("/generate", key, seed=2, num_chars=120).json()
    assert len(first["text"]) == 120
    assert first["text"] == again["text"]
    assert longer["text"].startswith(first["text"])
    assert other["text"] != first["text"]


def test_a_stream_adds_up_to_the_same_text(live_api, fresh_key):
    """Streamed or not is one text; `done` comes last and alone."""
    key = fresh_key()
    whole = live_api.server.post("/generate", key, seed=5, num_chars=200, prompt="And").json()
    events = stream(live_api, key, seed=5, num_chars=200, prompt="And")
    assert events[0] == (":", "open")
    text = "".join(json.loads(data)["text"] for name, data in events if name == "text")
    assert text == whole["text"]
    assert [name for name, _ in events if name in {"done", "error"}] == ["done"]
    done = json.loads(events[-1][1])
    assert done["usage"] == {"prompt_chars": 3, "generated_chars": 200, "charged_chars": 200}
    assert {**whole, "id": 0, "timing_ms": 0} == {**done, "text": text, "id": 0, "timing_ms": 0}


def test_what_was_not_generated_is_not_charged(live_api, fresh_key):
    """A stop string ends the text early, and the rest of the reservation comes back."""
    key = fresh_key()
    before = live_api.left(key)["chars_per_day"]
    body = live_api.server.post("/generate", key, seed=3, num_chars=2000, stop=" ").json()
    assert body["finish_reason"] == "stop"
    charged = body["usage"]["charged_chars"]
    assert charged == len(body["text"]) < 2000
    assert live_api.left(key)["chars_per_day"] == before - charged


def test_own_account(live_api):
    """A key sees itself, and nothing secret."""
    issued = live_api.issue(plan="free")
    answer = live_api.server.get("/v1/key", issued["key"])
    account = answer.json()
    assert account["key_id"] == issued["key_id"]
    assert account["plan"] == "free"
    assert account["max_num_chars"] == 1000
    assert {limit["name"] for limit in account["limits"]} >= {"requests_per_minute", "concurrency"}
    assert issued["key"].split("_")[3] not in answer.text


def test_rate_limits_end_in_429_with_a_wait_that_is_enough(live_api, fresh_key):
    """A free key's eleventh request of a minute is refused, with Retry-After and headers."""
    key = fresh_key(plan="free")
    statuses = [live_api.server.post("/generate", key, num_chars=1).status_code for _ in range(10)]
    assert statuses == [200] * 10
    refused = live_api.server.post("/generate", key, num_chars=1)
    # Continuous refill gives one back every 6 s: on a slow machine the refusal may come later.
    for _ in range(20):
        if refused.status_code == 429:
            break
        refused = live_api.server.post("/generate", key, num_chars=1)
    assert refused.status_code == 429
    assert refused.json()["code"] == "rate_limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert 0 < int(refused.headers["retry-after-ms"]) <= 60_000
    assert refused.headers["ratelimit"].startswith('"requests_per_minute"')


def test_one_request_at_a_time_for_a_free_key(live_api, fresh_key):
    """While one runs the next is too_many_concurrent; sequential requests never are."""
    key = fresh_key(plan="free")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        codes = list(
            pool.map(
                lambda _: live_api.server.post("/generate", key, num_chars=1000).status_code,
                range(4),
            )
        )
    assert 200 in codes
    assert set(codes) <= {200, 429}


def test_rotation_overlap_and_revocation(live_api):
    """Both secrets work in the overlap, the old one says until when; revoked is refused at once."""
    issued = live_api.issue()
    old = issued["key"]
    new = live_api.admin.keys.rotate(issued["key_id"], grace_seconds=600)["key"]
    told = live_api.server.post("/generate", old, num_chars=1)
    assert told.status_code == 200
    assert re.fullmatch(r"@\d+", told.headers["deprecation"])
    assert parsedate_to_datetime(told.headers["sunset"])
    fresh = live_api.server.post("/generate", new, num_chars=1)
    assert fresh.status_code == 200
    assert "deprecation" not in fresh.headers
    live_api.admin.keys.revoke(issued["key_id"])
    for key in (old, new):
        assert live_api.server.post("/generate", key, num_chars=1).status_code == 401
        assert live_api.server.get("/v1/key", key).status_code == 401


def test_a_key_issued_now_works_now(live_api, fresh_key):
    """No instance has to be told of a new key."""
    assert live_api.server.post("/generate", fresh_key(), num_chars=1).status_code == 200


def test_a_disabled_tenant_is_refused(live_api):
    """The next request of each of its keys is 403, and works again when it is enabled."""
    issued = live_api.issue()
    live_api.admin.tenants.disable(issued["tenant"])
    refused = live_api.server.post("/generate", issued["key"], num_chars=1)
    assert (refused.status_code, refused.json()["code"]) == (403, "tenant_disabled")
    live_api.admin.tenants.enable(issued["tenant"])
    assert live_api.server.post("/generate", issued["key"], num_chars=1).status_code == 200


def test_an_address_outside_the_list_is_refused(live_api):
    """CIDR lists hold for the address that the trusted proxy told."""
    issued = live_api.issue(allowed_cidrs=("192.0.2.0/24", "2001:db8::/32"))
    for address, status in (("192.0.2.9", 200), ("2001:db8::1", 200), ("198.51.100.1", 403)):
        answer = httpx.post(
            live_api.server.url + "/generate",
            headers={"X-API-Key": issued["key"], "X-Forwarded-For": address},
            json={"num_chars": 1},
            timeout=60,
        )
        assert answer.status_code == status


@pytest.mark.parametrize("path", ["/health", "/ready", "/openapi.json", "/docs"])
def test_public_pages(live_api, path):
    """Anyone may read them; each carries a request id."""
    answer = live_api.server.get(path)
    assert answer.status_code == 200
    assert answer.headers["x-request-id"]


def test_nothing_secret_is_in_the_log(live_api, fresh_key):
    """After a request neither the key nor its secret nor the prompt nor the text was logged."""
    key = fresh_key()
    body = live_api.server.post("/generate", key, prompt="canary prompt", num_chars=60).json()
    live_api.server.wait_until(lambda: body["id"] in live_api.server.log, "the log line")
    log = live_api.server.log
    assert key not in log
    assert key.split("_")[3] not in log
    assert "canary prompt" not in log
    assert body["text"] not in log


@pytest.mark.parametrize(
    "fields",
    [
        {"top_k": 10**30},
        {"top_k": 2**63},
        {"top_p": 5e-324},
        {"temperature": 5e-324},
        {"temperature": 2.0, "top_k": 1, "top_p": 5e-324},
        {"seed": 2**63 - 1},
    ],
)
def test_no_value_that_is_admitted_stops_the_generator(live_api, fresh_key, fields):
    """The furthest value of a field gives a text, and the next caller's request one as well."""
    key = fresh_key()
    extreme = live_api.server.post("/generate", key, num_chars=3, **fields)
    assert (extreme.status_code, len(extreme.json()["text"])) == (200, 3)
    assert live_api.server.post("/generate", fresh_key(), num_chars=3).status_code == 200
