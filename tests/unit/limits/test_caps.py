"""Caps of a tenant across its keys: decided and charged in the same call as the key's limits."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from api.limits.headers import response_headers
from api.limits.limiter import RedisLimiter
from api.limits.policy import Decision
from auth.plans import Caps
from auth.principal import Principal
from auth.propagation_keys import tenant_base
from tests.support.callers import caller, plan_of

KEYS = ("aaaaaaaaaaaa", "bbbbbbbbbbbb")


def ask(limiter: RedisLimiter, principal: Principal, chars: int = 1) -> Decision:
    return limiter.acquire(principal, chars=chars, lease_seconds=60, address="192.0.2.7")


def callers(caps: Caps | None, **plan: int) -> list[Principal]:
    return [caller(plan_of(**plan), key_id=key_id, caps=caps) for key_id in KEYS]


@pytest.mark.parametrize(
    ("caps", "chars", "code"),
    [
        (Caps(requests_per_minute=3), 1, "rate_limited"),
        (Caps(chars_per_minute=300), 100, "rate_limited"),
        (Caps(chars_per_day=300), 100, "quota_exceeded"),
        (Caps(chars_per_month=300), 100, "quota_exceeded"),
        (Caps(concurrency=3), 1, "too_many_concurrent"),
    ],
)
def test_the_keys_of_a_tenant_share_its_cap(limiter, caps, chars, code):
    """Three in all, whichever key they come with; another tenant and its own plan are untouched."""
    first, second = callers(caps)
    assert [ask(limiter, one, chars).allowed for one in (first, second, first)] == [True] * 3
    (name,) = caps.given
    for principal in (first, second):
        refused = ask(limiter, principal, chars)
        assert (refused.code, refused.binding) == (code, f"tenant_{name}")
        assert refused.retry_after_ms > 0
    assert ask(limiter, caller(tenant="globex", caps=caps), chars).allowed


def test_all_or_nothing_over_both_scopes(limiter):
    """What the key refuses costs the tenant nothing, and the other way round."""
    first, second = callers(Caps(chars_per_day=1000), chars_per_day=600)
    ask(limiter, first, 600)
    assert ask(limiter, first, 100).binding == "chars_per_day"
    assert ask(limiter, second, 500).binding == "tenant_chars_per_day"
    left = {state.name: state.remaining for state in limiter.peek(second).limits}
    assert left["chars_per_day"] == 600
    assert left["tenant_chars_per_day"] == 400
    assert ask(limiter, second, 400).allowed


def test_what_was_not_used_comes_back_to_the_tenant_too(limiter, clock):
    """At its settlement, late or in time, and when a lease lapses: through any key's next call."""
    first, second = callers(Caps(chars_per_day=1000, concurrency=2))
    limiter.settle(ask(limiter, first, 900).lease, used_chars=100, finish="stop")
    crashed = ask(limiter, first, 900)
    assert ask(limiter, second, 900).binding == "tenant_chars_per_day"
    clock.advance(60)
    decision = ask(limiter, second, 900)
    assert decision.allowed
    limiter.settle(decision.lease, used_chars=0, finish="refused")
    limiter.settle(crashed.lease, used_chars=50, finish="stop")
    limiter.settle(crashed.lease, used_chars=50, finish="stop")
    left = {state.name: state.remaining for state in limiter.peek(second).limits}
    assert (left["tenant_chars_per_day"], left["tenant_concurrency"]) == (850, 2)


def test_a_changed_cap_keeps_what_was_used(limiter):
    """Raised or lowered, the day's use counts against it at once."""
    ask(limiter, callers(Caps(chars_per_day=1000))[0], 700)
    assert not ask(limiter, callers(Caps(chars_per_day=800))[1], 200).allowed
    assert ask(limiter, callers(Caps(chars_per_day=900))[1], 200).allowed


def test_a_tenant_without_caps_leaves_no_state_of_its_own(limiter, client):
    """It costs nothing where nobody asked for it."""
    ask(limiter, callers(None)[0])
    assert [name for name in client.scan_iter() if name.endswith("acme:usage")] == []


def test_a_request_beyond_a_cap_can_never_be_admitted(limiter):
    """It is exceeds_plan, by the cap's name, and no wait."""
    decision = ask(limiter, callers(Caps(chars_per_minute=100))[0], 101)
    assert (decision.code, decision.binding) == ("exceeds_plan", "tenant_chars_per_minute")
    assert decision.retry_after_ms is None


def test_headers_name_the_caps(limiter):
    """A client can tell that its tenant's cap binds, not its key's plan."""
    headers = response_headers(ask(limiter, callers(Caps(chars_per_day=200))[0], 100))
    assert '"tenant_chars_per_day";q=200;w=86400;qu="chars"' in headers["RateLimit-Policy"]
    assert '"tenant_chars_per_day";r=100;t=' in headers["RateLimit"]
    assert headers["X-RateLimit-Limit"] == "200"


def test_caps_hold_while_redis_is_away(own_redis, clock):
    """This instance alone goes on from what Redis last said of the tenant's quota."""
    limiter = RedisLimiter(own_redis.url, clock=clock, timeout_seconds=0.5)
    first, second = callers(Caps(chars_per_day=1000))
    assert ask(limiter, first, 1).allowed
    clock.ms = ask(limiter, first, 800).lease.admitted_at_ms
    own_redis.process.send_signal(signal.SIGSTOP)
    assert ask(limiter, second, 250).binding == "tenant_chars_per_day"
    granted = ask(limiter, second, 150)
    assert granted.lease.local
    own_redis.process.send_signal(signal.SIGCONT)
    limiter.close()


def test_huge_rates_stay_exact(limiter, clock, client):
    """What drained is counted for hours at the largest rate, and not a part of it is lost."""
    rate, huge = 10**10, 10**12
    plan = plan_of(chars_per_minute=rate, chars_per_day=huge, chars_per_month=huge)
    principal = caller(replace(plan, max_num_chars=rate))
    spent = f"{tenant_base('acme')}:{principal.key_id}:buckets"
    for _ in range(30):
        held = ask(limiter, principal, rate - 7)
        running = ask(limiter, principal, 7)
        clock.advance(59.999)
        limiter.settle(held.lease, used_chars=0, finish="stop")  # all but a millisecond drained
        limiter.settle(running.lease, used_chars=0, finish="stop")  # none of it drained
        assert limiter.peek(principal).limits[1].remaining == rate
        assert float(client.hget(spent, "chars:drained")) < 2**51
        clock.advance(0.001)
