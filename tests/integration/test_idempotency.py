"""`Idempotency-Key` on two instances: answered again, charged once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date

import pytest
import redis

from api.app import create_app
from api.config import Settings
from api.gpt.request import EngineRefusedError
from api.limits.limiter import RedisLimiter
from api.limits.policy import Once
from tests.support.api_bench import GOOD, PRINCIPAL, FakeKeyring, no_admin
from tests.support.callers import caller, plan_of
from tests.support.scripted_engine import ScriptedEngine


@dataclass
class Instance:
    client: Callable
    engine: ScriptedEngine
    limiter: RedisLimiter

    def post(self, key: str | None = "order-7", path: str = "/generate", **fields):
        headers = {"X-API-Key": GOOD} | ({} if key is None else {"Idempotency-Key": key})
        return self.client().post(path, json=fields, headers=headers)

    def charged(self) -> tuple[int, int]:
        rows = self.limiter.usage(PRINCIPAL.tenant, [PRINCIPAL.key_id], date.min, date.max)
        return sum(row.chars for row in rows), sum(row.requests for row in rows)


@pytest.fixture
def instances(redis_url):
    made = []
    for _ in range(2):
        settings = Settings.from_env({"LOG_FORMAT": "json"})
        engine, limiter = ScriptedEngine(), RedisLimiter(redis_url, timeout_seconds=10)
        app = create_app(
            settings,
            keyring=FakeKeyring(),
            limiter=limiter,
            load_engine=lambda engine=engine: engine,
            admin=no_admin,
            redis_url=redis_url,
        )
        app.extensions["quillgate"].lifecycle._load_model()
        made.append(Instance(app.test_client, engine, limiter))
    yield made
    for instance in made:
        instance.limiter.close()


def test_the_same_request_is_answered_again_and_charged_once(instances):
    """The drawn seed brings the text back, on the other instance too; only the first one costs."""
    first, second = instances
    answers = [one.post(num_chars=40) for one in (first, second, first)]
    bodies = [answer.get_json() for answer in answers]
    assert len({(body["text"], body["seed"]) for body in bodies}) == 1
    assert [body["usage"]["charged_chars"] for body in bodies] == [40, 0, 0]
    assert ["Idempotent-Replayed" in answer.headers for answer in answers] == [False, True, True]
    assert second.charged() == (40, 3)
    assert second.post(None, num_chars=40).get_json()["seed"] != bodies[0]["seed"]


def test_a_dry_run_foretells_the_replay(instances):
    """The cost of a repetition is what the first did not pay, and it is said to be one."""
    first, second = instances
    foretell = "/generate?dry_run=1"

    def foretold(**fields) -> tuple:
        told = second.post(path=foretell, **fields).get_json()
        return told["cost"]["chars"], told["replay"], told["admitted"], told["code"]

    assert foretold(num_chars=40) == (40, False, True, None)
    assert first.post(num_chars=40).get_json()["usage"]["charged_chars"] == 40
    assert foretold(num_chars=40) == (0, True, True, None)
    assert foretold(num_chars=41) == (41, False, False, "idempotency_key_reused")
    assert second.charged() == (40, 1)
    assert second.post(num_chars=40).get_json()["usage"]["charged_chars"] == 0
    unspellable = second.post("a b", path=foretell, num_chars=40)
    assert unspellable.get_json()["errors"][0]["field"] == "Idempotency-Key"


def test_a_stream_is_answered_again_too(instances):
    """Charged once, whichever way it is told; another way of asking is another request."""
    first, second = instances
    streams = [one.post(num_chars=30, stream=True).data for one in (first, second)]
    assert b'"charged_chars": 30' in streams[0]
    assert b'"charged_chars": 0' in streams[1]
    assert first.charged()[0] == 30
    assert second.post(num_chars=30).status_code == 422


def test_an_early_end_is_whole_too(instances):
    """A text that a stop string ended is not paid for again, up to what was asked for."""
    first, second = instances
    bodies = [one.post(num_chars=500, seed=0, stop="e").get_json() for one in (first, second)]
    assert [body["text"] for body in bodies] == [bodies[0]["text"]] * 2
    assert [body["usage"]["charged_chars"] for body in bodies] == [
        bodies[0]["usage"]["generated_chars"],
        0,
    ]


def test_another_body_is_refused(instances):
    """422, nothing charged; the same key of another API key is another key."""
    first, second = instances
    assert first.post(num_chars=10).status_code == 200
    for fields in ({"num_chars": 11}, {"num_chars": 10, "seed": 3}):
        refused = second.post(**fields)
        assert (refused.status_code, refused.get_json()["code"]) == (422, "idempotency_key_reused")
    refused = second.post(path="/v1/completions", max_tokens=10)
    assert refused.get_json()["code"] == "idempotency_key_reused"
    assert first.charged() == (10, 1)
    second.client.__self__.extensions["quillgate"].keyring.answer = replace(
        PRINCIPAL, key_id="BBBBBBBBBBBB"
    )
    assert second.post(num_chars=11).status_code == 200


def test_while_the_first_is_running(instances):
    """409 with a wait, on either instance; then it is answered."""
    first, second = instances
    first.engine.seconds_per_char = 0.05
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(first.post(num_chars=40).status_code))
    thread.start()
    while not first.engine.running:
        pass
    for one in instances:
        refused = one.post(num_chars=40)
        assert (refused.status_code, refused.get_json()["code"]) == (409, "request_in_progress")
        assert refused.headers["Retry-After"] == "1"
    thread.join()
    assert done == [200]
    assert second.post(num_chars=40).headers["Idempotent-Replayed"] == "true"
    assert second.charged()[0] == 40


def test_a_failure_is_not_the_answer(instances):
    """What the engine refused is forgotten; what it broke off costs only the rest the next time."""
    first, second = instances
    first.engine.refuse = EngineRefusedError("overloaded", 1)
    refused = first.post(num_chars=40)
    assert refused.status_code == 503
    assert "Idempotent-Replayed" not in refused.headers
    assert first.charged() == (0, 0)
    first.engine.refuse, first.engine.fail_after = None, 15
    broken = first.post(num_chars=40, stream=True)
    delivered = broken.data.count(b'"text"')
    assert b"event: error" in broken.data
    already = first.charged()[0]
    assert 0 <= already <= 15
    assert delivered
    whole = second.post(num_chars=40, stream=True)
    assert f'"charged_chars": {40 - already}'.encode() in whole.data
    assert second.charged()[0] == 40


@pytest.mark.parametrize(
    "key", ["", '""', "a b", "a,b", '"a","b"', "k" * 256, "schlüssel".encode().decode("latin1")]
)
def test_what_is_no_key_is_refused_by_name(instances, key):
    """It is never ignored: who sent it would believe to be charged once."""
    refused = instances[0].post(key, num_chars=5)
    assert refused.status_code == 422
    assert refused.get_json()["errors"][0]["field"] == "Idempotency-Key"
    assert instances[0].charged() == (0, 0)


def test_quotes_are_spelling(instances):
    """A structured-field string and the bare word are one key."""
    first, second = instances
    seeds = {
        one.post(key, num_chars=5).get_json()["seed"]
        for one, key in ((first, '"a-1"'), (second, "a-1"))
    }
    assert len(seeds) == 1


def test_the_record_holds_no_text_and_ends(instances, redis_url):
    """A digest, the seed, the charge; gone after a day."""
    prompt = "a very private prompt"
    text = instances[0].post("order-private", prompt=prompt, num_chars=30).get_json()["text"]
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        (name,) = client.scan_iter("*:once:*")
        held = client.hgetall(name)
        assert 0 < client.pttl(name) <= 86_400_000
    assert set(held) == {"digest", "seed", "charged", "complete", "lease", "until"}
    everything = name + str(held)
    assert not [part for part in (prompt, text, "order-private") if part in everything]


def test_a_replay_obeys_rates_and_slots(redis_url):
    """It costs a request and a slot like any other, and no characters."""
    limiter = RedisLimiter(redis_url, timeout_seconds=10)
    principal = caller(plan_of(requests_per_minute=3, chars_per_minute=100, concurrency=1))
    once = Once("n", "d", 5)

    def ask(request: Once | None = once):
        return limiter.acquire(principal, chars=100, lease_seconds=60, address="", once=request)

    limiter.settle(ask().lease, used_chars=100, finish="length")
    assert ask(None).binding == "chars_per_minute"
    again = ask()
    assert (again.seed, again.lease.reserved_chars) == (5, 0)
    assert ask(Once("other", "d", 5)).code in {"too_many_concurrent", "rate_limited"}
    limiter.settle(again.lease, used_chars=0, finish="length")
    assert ask().allowed
    limiter.close()


def test_without_redis_nobody_is_charged_twice(own_redis):
    """Whether it was made before cannot be known: 503, and the record of what hung is undone."""
    limiter = RedisLimiter(own_redis.url, timeout_seconds=10)
    once, principal = Once("n", "d", 5), caller()

    def ask(request: Once | None):
        return limiter.acquire(principal, chars=9, lease_seconds=60, address="", once=request)

    limiter.settle(ask(once).lease, used_chars=9, finish="length")
    own_redis.stop()
    assert ask(None).lease.local
    refused = ask(once)
    assert (refused.code, refused.retry_after_ms) == ("limiter_unavailable", 1000)
    assert limiter.peek(principal, chars=9, once=once).code == "limiter_unavailable"
    assert limiter.peek(principal, chars=9).code is None
    limiter.close()
