"""One instance alone: its share of each limit (the state machine holds the rest)."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from api.limits.local import LocalLimiter, windows
from api.limits.policy import Decision
from auth.plans import Plan
from tests.support.callers import caller, plan_of

ids = (f"lease-{number}" for number in itertools.count())


def ask(limiter: LocalLimiter, plan: Plan, chars: int = 1) -> Decision:
    return limiter.acquire(caller(plan), chars=chars, lease_ms=300_000, lease_id=next(ids))


def admitted(limiter: LocalLimiter, plan: Plan, chars: int = 1, tries: int = 100) -> int:
    return sum(ask(limiter, plan, chars).allowed for _ in range(tries))


@pytest.mark.parametrize(
    ("plan", "chars", "expected"),
    [
        (plan_of(requests_per_minute=12), 1, 3),
        (plan_of(chars_per_minute=1200), 100, 3),
        (plan_of(chars_per_day=1200), 100, 3),
        (plan_of(chars_per_month=1200), 100, 3),
        (plan_of(concurrency=12), 1, 3),
    ],
)
def test_four_instances_admit_together_what_one_would(clock, plan, chars, expected):
    """Each limit is shared out: a quarter of twelve is three."""
    limiter = LocalLimiter(clock)
    limiter.instances = 4
    assert admitted(limiter, plan, chars) == expected


def test_a_share_drains_at_its_rate(clock):
    """A quarter of sixty a minute is one every four seconds."""
    limiter = LocalLimiter(clock)
    limiter.instances = 4
    plan = plan_of(requests_per_minute=60)
    assert admitted(limiter, plan) == 15
    assert ask(limiter, plan).retry_after_ms == 4000
    clock.advance(4)
    assert admitted(limiter, plan) == 1


def test_a_share_never_turns_a_good_request_away_for_ever(clock):
    """What the plan admits and a tenth of it would not, is admitted when nothing else was."""
    limiter = LocalLimiter(clock)
    limiter.instances = 10
    plan = plan_of(chars_per_minute=1000, chars_per_day=1000, chars_per_month=1000, concurrency=2)
    assert ask(limiter, plan, 900).allowed
    assert not ask(limiter, plan, 900).allowed
    assert ask(limiter, plan, 1001).code == "exceeds_plan"


def test_an_outage_does_not_refill_the_quotas(clock):
    """What Redis last said was used of the day and the month still is."""
    limiter = LocalLimiter(clock)
    plan = plan_of(chars_per_day=1000, chars_per_month=5000)
    limiter.learn(caller(plan), clock.ms, [(900, 900)])
    refused = ask(limiter, plan, 101)
    assert (refused.code, refused.binding) == ("quota_exceeded", "chars_per_day")
    assert ask(limiter, plan, 100).allowed
    clock.advance(24 * 3600)
    assert ask(limiter, plan, 1000).allowed


def test_what_runs_here_is_added_to_what_redis_knew(clock):
    """A second outage starts from Redis's numbers, and from what the first left running."""
    limiter = LocalLimiter(clock)
    plan = plan_of(chars_per_day=1000)
    running = ask(limiter, plan, 300)
    limiter.learn(caller(plan), clock.ms, [(500, 500)])
    assert limiter.peek(caller(plan), chars=0).limits[2].remaining == 200
    limiter.settle(running.lease, used_chars=100, whole=False)
    assert limiter.peek(caller(plan), chars=0).limits[2].remaining == 400


def test_a_clock_that_steps_back_refills_nothing(clock):
    """Time that was already counted is not counted again."""
    limiter = LocalLimiter(clock)
    plan = plan_of(requests_per_minute=6)
    assert admitted(limiter, plan) == 6
    clock.advance(-5)
    assert not ask(limiter, plan).allowed
    clock.advance(14.999)
    assert not ask(limiter, plan).allowed
    clock.advance(0.001)
    assert ask(limiter, plan).allowed


def test_threads_admit_exactly_the_quota(clock):
    """Fifty threads on one key: ten are admitted, not one more."""
    limiter = LocalLimiter(clock)
    plan = plan_of(requests_per_minute=10)
    codes: Counter[str | None] = Counter()
    start = threading.Barrier(50)

    def one() -> None:
        start.wait()
        codes[ask(limiter, plan).code] += 1

    threads = [threading.Thread(target=one) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {None: 10, "rate_limited": 40}


def test_an_unknown_lease_changes_nothing(clock):
    """A settlement for a lease of another life of this process is not an error."""
    limiter = LocalLimiter(clock)
    lease = ask(LocalLimiter(clock), plan_of()).lease
    limiter.settle(lease, used_chars=0, whole=True)
    ask(limiter, plan_of(), 100)
    limiter.settle(lease, used_chars=0, whole=True)
    assert limiter.peek(caller(plan_of()), chars=0).limits[1].remaining == 59_900


def test_the_calendar_is_utc_and_knows_leap_years():
    """Every day of five years ends where the next begins; months follow the calendar."""
    first = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(5 * 366):
        day = first + timedelta(days=number)
        start_ms = int(day.timestamp()) * 1000
        for moment in (start_ms, start_ms + 86_399_999):
            window = windows(moment)
            assert (window.day, window.month) == (f"{day:%Y-%m-%d}", f"{day:%Y-%m}")
            assert window.day_ends_ms == start_ms + 86_400_000
            assert windows(window.month_ends_ms - 1).month == window.month
            assert windows(window.month_ends_ms).day.endswith("-01")
