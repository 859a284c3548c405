"""The ledger: what was used, by day and key, from the counters that enforce."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
import redis

from api.limits.limiter import LimiterUnavailableError, RedisLimiter
from api.limits.usage import Usage, by_day, by_key, total
from auth.ledger import DayUsage, days_of
from auth.principal import Principal
from auth.propagation_keys import tenant_base
from tests.support.callers import caller, plan_of

FIRST, SECOND = caller(key_id="aaaaaaaaaaaa"), caller(key_id="bbbbbbbbbbbb")


def use(limiter: RedisLimiter, principal: Principal, chars: int) -> None:
    decision = limiter.acquire(principal, chars=chars, lease_seconds=60, address="2001:db8::7")
    limiter.settle(decision.lease, used_chars=chars, finish="length")


def test_usage_is_told_by_day_and_key(limiter, clock):
    """Days outside the question and keys not asked for are left out; refusals are counted."""
    use(limiter, FIRST, 100)
    clock.advance(24 * 3600)
    use(limiter, FIRST, 20)
    use(limiter, SECOND, 3)
    exceeding = caller(plan_of(max_num_chars=10), key_id=SECOND.key_id)
    assert not limiter.acquire(exceeding, chars=11, lease_seconds=1, address="").allowed
    clock.advance(24 * 3600)
    use(limiter, FIRST, 4000)
    rows = limiter.usage(
        "acme", [FIRST.key_id, SECOND.key_id], date(2026, 11, 23), date(2026, 11, 24)
    )
    assert total(rows) == Usage(chars=123, requests=3, refused=1)
    assert by_day(rows) == {
        date(2026, 11, 23): Usage(100, 1, 0),
        date(2026, 11, 24): Usage(23, 2, 1),
    }
    assert by_key(rows) == {FIRST.key_id: Usage(120, 2, 0), SECOND.key_id: Usage(3, 1, 1)}
    assert limiter.usage("globex", [FIRST.key_id], date.min, date.max) == []
    assert limiter.usage("acme", [], date.min, date.max) == []


def test_the_ledger_reaches_back_400_days_and_no_further(limiter, clock, client):
    """The first request of a day clears what is older; what a question may ask for stays."""
    use(limiter, FIRST, 1)
    clock.advance(24 * 3600)
    use(limiter, FIRST, 2)
    clock.advance(400 * 24 * 3600)
    use(limiter, FIRST, 3)
    rows = limiter.usage("acme", [FIRST.key_id], date.min, date.max)
    assert [row.day for row in rows] == [
        date(2026, 11, 24),
        date(2026, 11, 24) + timedelta(days=400),
    ]
    assert "2026-11:chars" in client.hkeys(f"{tenant_base('acme')}:aaaaaaaaaaaa:usage")
    clock.advance(31 * 24 * 3600)
    use(limiter, FIRST, 4)
    assert "2026-11:chars" not in client.hkeys(f"{tenant_base('acme')}:aaaaaaaaaaaa:usage")


def test_calendar_of_the_script_is_the_calendar(limiter, clock, client):
    """Across two years and a leap day, each request is counted under its own UTC date."""
    principal = caller(plan_of(concurrency=10_000, chars_per_month=10**9))
    expected = set()
    start = date(2026, 11, 23)
    for number in range(0, 800, 3):
        use(limiter, principal, 1)
        expected.add(start + timedelta(days=number))
        clock.advance(3 * 24 * 3600)
    rows = limiter.usage("acme", [principal.key_id], date.min, date.max)
    kept = {row.day for row in rows}
    assert kept == {day for day in expected if day >= max(expected) - timedelta(days=400)}


def test_usage_without_redis_is_an_error_not_a_zero(tmp_path):
    """An account that cannot be read is never shown as empty."""
    limiter = RedisLimiter(f"unix://{tmp_path}/none.sock")
    for _ in range(2):  # the second is refused by the breaker, without a try
        with pytest.raises(LimiterUnavailableError):
            limiter.usage("acme", [FIRST.key_id], date.min, date.max)
    limiter.close()


def test_a_ledger_of_a_newer_release_can_be_read():
    """Counters this release does not know are left alone."""
    ledger = {b"2026-11-23:chars": b"5", b"2026-11-23:later": b"1", b"2026-11:chars": b"5"}
    rows = days_of("k", ledger, date.min, date.max)
    assert rows == [DayUsage("k", date(2026, 11, 23), 5, 0, 0)]


def test_a_refused_stranger_leaves_a_ledger_that_ends(limiter, client: redis.Redis):
    """Refusals alone create one key, with a time-to-live."""
    limiter.acquire(caller(plan_of(max_num_chars=10)), chars=11, lease_seconds=1, address="")
    assert list(client.scan_iter("*usage")) == [f"{tenant_base('acme')}:0123456789ab:usage"]
    assert client.ttl(f"{tenant_base('acme')}:0123456789ab:usage") > 400 * 24 * 3600
