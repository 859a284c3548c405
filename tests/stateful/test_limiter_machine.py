"""Both limiters against an exact model: any mix of requests, ends, plan changes and time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import date
from typing import Protocol

import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from api.limits.limiter import RedisLimiter
from api.limits.local import LocalLimiter
from api.limits.policy import OF_TENANT, REFUSAL_CODES, Decision, Lease
from auth.plans import Caps, Plan
from auth.principal import Principal
from tests.support.callers import caller, plan_of
from tests.support.limiter_model import KeyModel

# Small enough that every limit binds within a few steps; the second is a larger and odder plan.
PLANS = [
    plan_of(
        requests_per_minute=4,
        chars_per_minute=100,
        chars_per_day=260,
        chars_per_month=600,
        concurrency=2,
        max_num_chars=90,
    ),
    plan_of(
        requests_per_minute=13,
        chars_per_minute=130,
        chars_per_day=700,
        chars_per_month=1500,
        concurrency=6,
        max_num_chars=120,
    ),
]
# One tenant is capped on everything, below what its two keys may use; one on some things alone.
CAPS = {
    "acme": Caps(
        requests_per_minute=6,
        chars_per_minute=150,
        chars_per_day=400,
        chars_per_month=900,
        concurrency=3,
    ),
    "globex": Caps(chars_per_minute=110, chars_per_month=500),
    "initech": None,
}
KEYS = [
    *(("acme", "aaaaaaaaaaaa"), ("acme", "bbbbbbbbbbbb")),
    *(("globex", "aaaaaaaaaaaa"), ("initech", "aaaaaaaaaaaa")),
]
START_MS = 1_796_083_140_000  # one minute before the midnight that ends 30 November 2026, UTC

keys = st.sampled_from(KEYS)
plans = st.sampled_from(PLANS)
chars = st.one_of(st.integers(0, 40), st.integers(0, 125))
lease_seconds = st.sampled_from([0.5, 20.0, 300.0])
pauses_ms = st.one_of(
    st.just(0),
    st.integers(1, 15_000),
    st.integers(1, 90_000),
    st.sampled_from([600_000, 80_000_000, 90_000_000]),
)


class Backend(Protocol):
    """One of the two limiters, with its time in the test's hands."""

    def acquire(self, principal: Principal, chars: int, lease_seconds: float) -> Decision: ...
    def settle(self, lease: Lease, used: int, finish: str) -> None: ...
    def peek(self, principal: Principal, chars: int) -> Decision: ...
    def check(self, models: dict[tuple[str, str], KeyModel]) -> None: ...


class OnRedis:
    """The production limiter on a real Redis."""

    def __init__(self, url: str, now_ms: Callable[[], int]) -> None:
        self.client = redis.Redis.from_url(url, decode_responses=True)
        self.client.flushall()
        self.limiter = RedisLimiter(url, timeout_seconds=10, redis_clock_ms=now_ms)

    def acquire(self, principal: Principal, chars: int, lease_seconds: float) -> Decision:
        return self.limiter.acquire(
            principal, chars=chars, lease_seconds=lease_seconds, address="192.0.2.7"
        )

    def settle(self, lease: Lease, used: int, finish: str) -> None:
        self.limiter.settle(lease, used_chars=used, finish=finish)

    def peek(self, principal: Principal, chars: int) -> Decision:
        return self.limiter.peek(principal, chars=chars)

    def check(self, models: dict[tuple[str, str], KeyModel]) -> None:
        """Every key has a TTL; the ledger adds up to what was charged."""
        for name in self.client.scan_iter():
            assert self.client.pttl(name) > 0, name
        for (tenant, key_id), model in models.items():
            rows = self.limiter.usage(tenant, [key_id], date.min, date.max)
            told = {str(row.day): (row.chars, row.requests, row.refused) for row in rows}
            assert told == model.ledger()

    def close(self) -> None:
        self.limiter.close()
        self.client.close()


class InMemory:
    """The limiter of one instance alone."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.limiter = LocalLimiter(clock=lambda: now_ms() / 1000)
        self.ids = (f"lease-{number}" for number in itertools.count())

    def acquire(self, principal: Principal, chars: int, lease_seconds: float) -> Decision:
        return self.limiter.acquire(
            principal, chars=chars, lease_ms=int(lease_seconds * 1000), lease_id=next(self.ids)
        )

    def settle(self, lease: Lease, used: int, finish: str) -> None:
        whole = finish == "refused"
        used = 0 if whole else min(used, lease.reserved_chars)
        self.limiter.settle(lease, used_chars=used, whole=whole)

    def peek(self, principal: Principal, chars: int) -> Decision:
        return self.limiter.peek(principal, chars=chars)

    def check(self, models: dict[tuple[str, str], KeyModel]) -> None:
        """It keeps no ledger of its own: what it admitted is told to Redis later."""

    def close(self) -> None:
        """It holds nothing."""


class LimiterMachine(RuleBasedStateMachine):
    """Never over, never under; a refusal changes nothing and says exactly when to come again."""

    leases = Bundle("leases")

    def __init__(self, backend: Callable[[Callable[[], int]], Backend]) -> None:
        super().__init__()
        self.now_ms = START_MS
        self.backend = backend(lambda: self.now_ms)
        self.models = {key: KeyModel(PLANS[0], START_MS) for key in KEYS}
        self.tenants = {
            tenant: KeyModel(plan_of_caps(caps), START_MS)
            for tenant, caps in CAPS.items()
            if caps is not None
        }

    @rule(target=leases, key=keys, plan=plans, chars=chars, lease_seconds=lease_seconds)
    def acquire(self, key: tuple[str, str], plan: Plan, chars: int, lease_seconds: float):
        decision = self.backend.acquire(self.caller(key, plan), chars, lease_seconds)
        scopes = self.look(key, plan)
        if any(model.exceeds(chars) for model in scopes.values()):
            assert decision.code == "exceeds_plan"
            assert decision.retry_after_ms is None
        self.agree(decision, scopes, chars)
        if decision.lease is None:
            for model in scopes.values():
                model.refuse()
            return multiple()
        for model in scopes.values():
            model.admit(decision.lease.lease_id, chars, int(lease_seconds * 1000))
        self.told_in_full(decision, key[0], scopes)
        return key, decision.lease

    @rule(
        lease=leases,
        pause_ms=pauses_ms,
        used=st.integers(0, 125),
        finish=st.sampled_from(["length", "stop", "aborted", "error", "refused"]),
    )
    def settle(self, lease: tuple[tuple[str, str], Lease], pause_ms: int, used: int, finish: str):
        """Once or again, in time or late, whether or not anybody asked about the key between."""
        key, granted = lease
        self.pass_time(pause_ms)
        self.backend.settle(granted, used, finish)
        used = 0 if finish == "refused" else min(used, granted.reserved_chars)
        for model in self.scopes(key).values():
            model.settle(granted.lease_id, used, whole=finish == "refused")

    @rule(ms=pauses_ms)
    def pass_time(self, ms: int) -> None:
        self.now_ms += ms
        for model in [*self.models.values(), *self.tenants.values()]:
            model.advance(ms)

    @rule(key=keys, plan=plans, chars=chars)
    def peek(self, key: tuple[str, str], plan: Plan, chars: int) -> None:
        """It foretells the decision, and the invariant sees that it charges nothing."""
        decision = self.backend.peek(self.caller(key, plan), chars)
        self.agree(decision, self.look(key, plan), chars)

    def caller(self, key: tuple[str, str], plan: Plan) -> Principal:
        return caller(plan, tenant=key[0], key_id=key[1], caps=CAPS[key[0]])

    def scopes(self, key: tuple[str, str]) -> dict[str, KeyModel]:
        """Return what limits the key, by what begins the limits' names."""
        own = {"": self.models[key]}
        return own | ({OF_TENANT: self.tenants[key[0]]} if key[0] in self.tenants else {})

    def look(self, key: tuple[str, str], plan: Plan) -> dict[str, KeyModel]:
        scopes = self.scopes(key)
        scopes[""].look(plan)
        if OF_TENANT in scopes:
            scopes[OF_TENANT].look(scopes[OF_TENANT].plan)
        return scopes

    def told_in_full(self, decision: Decision, tenant: str, scopes: dict[str, KeyModel]) -> None:
        """Every limit there is, with what is left of it, and none that there is not."""
        names = list(REFUSAL_CODES)[:5]
        expected = dict(zip(names, scopes[""].remaining(), strict=True))
        if OF_TENANT in scopes:
            left = dict(zip(names, scopes[OF_TENANT].remaining(), strict=True))
            expected |= {OF_TENANT + name: left[name] for name in CAPS[tenant].given}
        assert {state.name: state.remaining for state in decision.limits} == expected

    def agree(self, decision: Decision, scopes: dict[str, KeyModel], chars: int) -> None:
        """The decision is the model's, and its wait is to the millisecond."""
        if any(model.exceeds(chars) for model in scopes.values()):
            assert decision.code == "exceeds_plan"
            return

        def refusing_after(ms: int) -> set[str]:
            return {
                begin + name
                for begin, model in scopes.items()
                for name in model.refusing(chars, ms)
            }

        refusing = refusing_after(0)
        assert (decision.code is None) == (not refusing), refusing
        if decision.code is None:
            return
        assert decision.binding in refusing
        assert decision.code == REFUSAL_CODES[decision.binding]
        wait_ms = decision.retry_after_ms
        assert wait_ms is not None
        assert wait_ms > 0
        # A slot comes back when a request ends, not by time: asking again soon is all one can do.
        assert refusing_after(wait_ms) <= {"concurrency", f"{OF_TENANT}concurrency"}
        if decision.binding.endswith("concurrency"):
            assert wait_ms == 1000
        else:
            assert decision.binding in refusing_after(wait_ms - 1)

    @invariant()
    def everything_left_is_told(self) -> None:
        """Asked about any key, at any time, the limiter tells exactly what the model holds."""
        for key, model in self.models.items():
            decision = self.backend.peek(self.caller(key, model.plan), 0)
            self.told_in_full(decision, key[0], self.look(key, model.plan))
            told = [round(state.reset_seconds * 1000) for state in decision.limits[:2]]
            assert told == model.full_in_ms()
        self.backend.check(self.models)

    def teardown(self) -> None:
        self.backend.close()


def plan_of_caps(caps: Caps) -> Plan:
    """Return a plan that holds where there is a cap, and nowhere else."""
    nowhere = dict.fromkeys(
        ("requests_per_minute", "chars_per_minute", "chars_per_day", "chars_per_month"), 10**9
    )
    return plan_of(**{**nowhere, "concurrency": 10**9, "max_num_chars": 10**9, **caps.given})


SETTINGS = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_redis_limiter(redis_url: str) -> None:
    """The Lua scripts decide as the model does, whatever happens in whatever order."""
    run_state_machine_as_test(
        lambda: LimiterMachine(lambda now_ms: OnRedis(redis_url, now_ms)), settings=SETTINGS
    )


def test_local_limiter() -> None:
    """One instance alone decides exactly as Redis would."""
    run_state_machine_as_test(lambda: LimiterMachine(InMemory), settings=SETTINGS)
