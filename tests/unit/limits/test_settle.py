"""What comes back when a request ends, however it ends."""

from __future__ import annotations

from datetime import date

import pytest

from api.limits.limiter import RedisLimiter
from api.limits.policy import Decision, Lease
from tests.support.callers import caller, plan_of

PLAN = plan_of(chars_per_minute=6000, chars_per_day=50_000)  # 100 characters a second


def ask(limiter: RedisLimiter, chars: int, *, lease_seconds: float = 300) -> Decision:
    return limiter.acquire(
        caller(PLAN), chars=chars, lease_seconds=lease_seconds, address="192.0.2.7"
    )


def admit(limiter: RedisLimiter, chars: int, *, lease_seconds: float = 300) -> Lease:
    lease = ask(limiter, chars, lease_seconds=lease_seconds).lease
    assert lease is not None
    return lease


def left(limiter: RedisLimiter) -> dict[str, int]:
    return {state.name: state.remaining for state in limiter.peek(caller(PLAN)).limits}


def used(limiter: RedisLimiter) -> list[tuple[str, int, int, int]]:
    rows = limiter.usage("acme", [caller().key_id], date.min, date.max)
    return [(str(row.day), row.chars, row.requests, row.refused) for row in rows]


def test_what_was_not_used_comes_back_everywhere(limiter):
    """The rate, the day, the month, the slot and the ledger all end at what was used."""
    limiter.settle(admit(limiter, 5000), used_chars=200, finish="stop")
    assert left(limiter) == {
        "requests_per_minute": 599,
        "chars_per_minute": 5800,
        "chars_per_day": 49_800,
        "chars_per_month": 9_999_800,
        "concurrency": 100,
    }
    assert used(limiter) == [("2026-11-23", 200, 1, 0)]


def test_settling_again_changes_nothing(limiter):
    """A settlement may be repeated, with any amount: the first one counts."""
    lease = admit(limiter, 5000)
    limiter.settle(lease, used_chars=200, finish="stop")
    after = left(limiter)
    limiter.settle(lease, used_chars=0, finish="aborted")
    limiter.settle(lease, used_chars=0, finish="refused")
    assert left(limiter) == after
    assert used(limiter) == [("2026-11-23", 200, 1, 0)]


def test_a_request_that_was_never_begun_costs_nothing(limiter):
    """`refused` (the generator was full) gives the request itself back too."""
    limiter.settle(admit(limiter, 5000), used_chars=0, finish="refused")
    full = left(limiter)
    assert full["requests_per_minute"] == 600
    assert full["chars_per_minute"] == 6000
    assert used(limiter) == [("2026-11-23", 0, 0, 0)]


def test_nothing_comes_back_twice(limiter, clock):
    """What drained by itself while the request ran is not given back again at its end.

    6 000 reserved and half drained: another 3 000 are admitted. When the first request then
    gives up, only the half that had not come back yet does.
    """
    lease = admit(limiter, 6000)
    clock.advance(30)
    admit(limiter, 3000)
    limiter.settle(lease, used_chars=0, finish="aborted")
    assert left(limiter)["chars_per_minute"] == 3000
    assert left(limiter)["chars_per_day"] == 47_000


def test_a_refund_finds_its_place_behind_other_refunds(limiter, clock):
    """Leases settle in any order; each gives back exactly what of it has not drained.

    Four of 1 500, the second of which gives up at once. After 30 s the first and the third have
    drained, and only the fourth has anything left to give back.
    """
    first, second, third, fourth = (admit(limiter, 1500) for _ in range(4))
    limiter.settle(second, used_chars=0, finish="aborted")
    assert left(limiter)["chars_per_minute"] == 1500
    clock.advance(30)
    assert left(limiter)["chars_per_minute"] == 4500
    limiter.settle(third, used_chars=0, finish="aborted")
    limiter.settle(first, used_chars=0, finish="aborted")
    assert left(limiter)["chars_per_minute"] == 4500
    limiter.settle(fourth, used_chars=500, finish="aborted")
    assert left(limiter)["chars_per_minute"] == 5500


def test_a_crashed_holder_loses_its_lease_by_time(limiter, clock):
    """Nobody settles: when the lease ends, the slot and all that was reserved are back."""
    admit(limiter, 5000, lease_seconds=10)
    clock.advance(9.999)
    assert left(limiter)["concurrency"] == 99
    assert left(limiter)["chars_per_day"] == 45_000
    clock.advance(0.001)
    assert left(limiter)["concurrency"] == 100
    assert left(limiter)["chars_per_day"] == 50_000
    assert left(limiter)["chars_per_minute"] == 6000


def test_a_holder_that_comes_back_late_is_charged_what_it_used(limiter, clock):
    """The lease lapsed and was given back; the text was served all the same: the ledger knows."""
    lease = admit(limiter, 5000, lease_seconds=10)
    clock.advance(11)
    assert used(limiter)[0][1] == 5000
    assert left(limiter)["chars_per_day"] == 50_000
    limiter.settle(lease, used_chars=700, finish="length")
    limiter.settle(lease, used_chars=700, finish="length")
    assert left(limiter)["chars_per_day"] == 49_300
    assert used(limiter) == [("2026-11-23", 700, 1, 0)]


def test_a_refund_goes_to_the_windows_that_were_charged(limiter, clock):
    """A request over midnight is settled in the day (and month) that admitted it."""
    clock.advance(14 * 3600 - 1)
    lease = admit(limiter, 5000)
    clock.advance(2)
    admit(limiter, 1000)
    limiter.settle(lease, used_chars=10, finish="stop")
    assert left(limiter)["chars_per_day"] == 49_000
    assert used(limiter) == [("2026-11-23", 10, 1, 0), ("2026-11-24", 1000, 1, 0)]


@pytest.mark.parametrize(("said", "charged"), [(-5, 0), (5001, 5000)])
def test_no_settlement_charges_outside_the_reservation(limiter, said, charged):
    """Whatever the caller says was used, it is between nothing and what was reserved."""
    limiter.settle(admit(limiter, 5000), used_chars=said, finish="error")
    assert used(limiter) == [("2026-11-23", charged, 1, 0)]
