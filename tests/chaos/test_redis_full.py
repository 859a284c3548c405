"""A Redis that is full and evicts nothing: what is decided, what is told, what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest
import redis
from structlog.testing import capture_logs

from api.app import _limiter_event
from api.limits.limiter import LimiterEvent, RedisLimiter
from api.telemetry import Metrics
from tests.support.callers import caller, plan_of
from tests.support.redis_server import RedisServer


@pytest.fixture
def client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    """Yield a hand on a Redis set as docs/deploy.md sets Memorystore."""
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        yield client


def fill(client: redis.Redis) -> None:
    """Let strangers' data take what was left."""
    client.mset({f"filler:{number}": "x" * 1000 for number in range(1000)})
    client.config_set("maxmemory", client.info("memory")["used_memory"] - 100_000)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.set("one more", 1)


@pytest.mark.parametrize("mode", ["local", "closed", "open"])
def test_a_full_redis_is_an_outage_that_is_told_and_forgets_nothing(own_redis, client, mode):
    """Requests go by the outage mode, the log names `maxmemory`, the ledger stays, and what was
    served meanwhile is booked once there is room."""
    metrics, now = Metrics(), [1000.0]
    limiter = RedisLimiter(
        own_redis.url,
        outage=mode,
        monotonic=lambda: now[0],
        timeout_seconds=10,
        on_event=lambda event, detail: _limiter_event(metrics, event, detail),
    )
    principal = caller(plan_of(chars_per_day=1000))

    def ask(chars):
        return limiter.acquire(principal, chars=chars, lease_seconds=300, address="192.0.2.7")

    def used():
        days = limiter.usage(
            principal.tenant, [principal.key_id], date(2000, 1, 1), date(2100, 1, 1)
        )
        return sum(day.chars for day in days)

    limiter.settle(ask(300).lease, used_chars=300, finish="length")
    before = {name for name in client.keys("qg:*") if name.endswith(b":usage")}
    fill(client)
    with capture_logs() as lines:
        decision = ask(200)
    [line] = [line for line in lines if line["event"] == "limiter.redis"]
    assert line["change"] == LimiterEvent.REDIS_LOST.value
    assert line["detail"].startswith("Redis is full")
    assert "maxmemory" in line["detail"]
    now[0] += 1.0
    assert not limiter.ping()  # it answers, but a service that cannot count is without it
    assert decision.code == {"closed": "limiter_unavailable"}.get(mode)
    served = 0
    if decision.lease is not None:
        limiter.settle(decision.lease, used_chars=200, finish="length")
        served = 200
    assert before <= set(client.keys("qg:*"))

    client.config_set("maxmemory", 0)
    now[0] += 1.0
    with capture_logs() as lines:
        again = ask(100)
    assert [line["change"] for line in lines if line["event"] == "limiter.redis"] == ["redis_back"]
    assert {line["log_level"] for line in lines if line["event"] == "limiter.redis"} == {"info"}
    limiter.settle(again.lease, used_chars=100, finish="length")
    assert used() == 300 + served + 100
    limiter.close()
