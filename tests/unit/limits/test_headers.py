"""How a decision is spelled in headers."""

from __future__ import annotations

import re

import pytest

from api.limits.headers import response_headers
from api.limits.policy import Decision, Lease, limit_states, scopes_of
from tests.support.callers import caller, plan_of

LEASE = Lease("id", "acme", "0123456789ab", 100, 0)
PLAN = plan_of(requests_per_minute=10, chars_per_minute=5000, concurrency=1)
STATES = limit_states(
    scopes_of(caller(PLAN)), (9, 2500, 999_000, 9_000_000, 0), (5_001, 30_000, 60_000, 1, 0), 30
)


def test_every_limit_is_a_named_policy():
    """A client can tell which limit is which, in what unit and over which window."""
    headers = response_headers(Decision(LEASE, limits=STATES))
    assert headers["RateLimit-Policy"] == (
        '"requests_per_minute";q=10;w=60;qu="requests", '
        '"chars_per_minute";q=5000;w=60;qu="chars", '
        '"chars_per_day";q=1000000;w=86400;qu="chars", '
        '"chars_per_month";q=10000000;w=2592000;qu="chars", '
        '"concurrency";q=1;qu="concurrent-requests"'
    )
    assert headers["RateLimit"] == (
        '"requests_per_minute";r=9;t=6, "chars_per_minute";r=2500;t=30, '
        '"chars_per_day";r=999000;t=60, "chars_per_month";r=9000000;t=1, "concurrency";r=0'
    )


def test_the_trio_speaks_of_the_tightest_window():
    """Half of chars_per_minute is less than nine tenths; a cap of one at a time is no news."""
    headers = response_headers(Decision(LEASE, limits=STATES))
    trio = [headers[f"X-RateLimit-{part}"] for part in ("Limit", "Remaining", "Reset")]
    assert trio == ["5000", "2500", "30"]
    assert "Retry-After" not in headers


@pytest.mark.parametrize(("wait_ms", "seconds"), [(1, "1"), (1000, "1"), (1001, "2")])
def test_retry_after_is_whole_seconds_and_enough(wait_ms, seconds):
    """Never 0, never less than the wait; the exact wait is beside it; the refuser says the same."""
    decision = Decision(None, "rate_limited", "requests_per_minute", wait_ms, STATES)
    headers = response_headers(decision)
    assert headers["Retry-After"] == seconds
    assert headers["retry-after-ms"] == str(wait_ms)
    assert f'"requests_per_minute";r=9;t={seconds},' in headers["RateLimit"]
    assert headers["X-RateLimit-Limit"] == "10"
    assert headers["X-RateLimit-Reset"] == seconds


def test_a_limiter_that_could_not_answer_claims_nothing():
    """No numbers without Redis; only when to come again."""
    headers = response_headers(Decision(None, "limiter_unavailable", retry_after_ms=1000))
    assert headers == {"Retry-After": "1", "retry-after-ms": "1000"}
    assert response_headers(Decision(LEASE)) == {}


def test_values_are_structured_fields():
    """Each list member is a quoted name with integer parameters (RFC 9651)."""
    headers = response_headers(Decision(LEASE, limits=STATES))
    item = r'"[a-z_]+"(;(q|w|r|t)=\d+|;qu="[a-z-]+")+'
    for name in ("RateLimit-Policy", "RateLimit"):
        assert re.fullmatch(rf"{item}(, {item})*", headers[name])
