"""A limiter on a real Redis whose clock the test moves; no time-out can make a test flaky."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from api.limits.limiter import RedisLimiter


@dataclass
class Clock:
    """Unix time in ms: Monday 2026-11-23, 10:00 UTC, until it is moved."""

    ms: int = 1_795_428_000_000

    def __call__(self) -> float:
        return self.ms / 1000

    def advance(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(redis_url: str, clock: Clock) -> Iterator[RedisLimiter]:
    limiter = RedisLimiter(
        redis_url, clock=clock, timeout_seconds=10, redis_clock_ms=lambda: clock.ms
    )
    yield limiter
    limiter.close()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client
