"""What one Redis call decides about one request, limit by limit."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import date

import pytest
import redis

from api.limits.limiter import RedisLimiter
from api.limits.policy import LIMIT_NAMES, Decision
from auth.principal import Principal, Rotation, SecretRole
from auth.propagation_keys import (
    keyring_pointer_copy,
    last_used,
    revoked_marker,
    tenant_base,
    tenant_group,
)
from tests.support.callers import caller, plan_of


def ask(
    limiter: RedisLimiter, principal: Principal, chars: int = 1, *, lease_seconds: float = 300
) -> Decision:
    return limiter.acquire(principal, chars=chars, lease_seconds=lease_seconds, address="192.0.2.7")


def remaining(decision: Decision) -> dict[str, int]:
    return {state.name: state.remaining for state in decision.limits}


def test_requests_per_minute_admits_the_quota_at_once_then_evenly(limiter, clock):
    """Ten a minute: ten now, the eleventh after exactly six seconds."""
    principal = caller(plan_of(requests_per_minute=10))
    assert all(ask(limiter, principal).allowed for _ in range(10))
    refused = ask(limiter, principal)
    assert (refused.code, refused.binding) == ("rate_limited", "requests_per_minute")
    assert refused.retry_after_ms == 6000
    clock.advance(5.999)
    assert not ask(limiter, principal).allowed
    clock.advance(0.001)
    assert ask(limiter, principal).allowed
    assert not ask(limiter, principal).allowed


def test_retry_after_is_for_this_very_request(limiter, clock):
    """A large request waits for its own size, a small one only for its own."""
    principal = caller(plan_of(chars_per_minute=6000))
    assert ask(limiter, principal, 6000).allowed
    assert ask(limiter, principal, 100).retry_after_ms == 1000
    assert ask(limiter, principal, 3000).retry_after_ms == 30_000
    clock.advance(30)
    assert ask(limiter, principal, 3000).allowed


def test_a_refused_request_changes_no_limit(limiter):
    """All are charged or none: a request that one limit refuses costs nothing at the others."""
    principal = caller(plan_of(requests_per_minute=5, chars_per_minute=1000))
    before = remaining(ask(limiter, principal, 900))
    for _ in range(20):
        refused = ask(limiter, principal, 200)
        assert refused.code == "rate_limited"
        assert remaining(refused) == before


@pytest.mark.parametrize(
    ("limit", "wait_seconds"),
    [("chars_per_day", 14 * 3600), ("chars_per_month", (7 * 24 + 14) * 3600)],
)
def test_a_quota_comes_back_when_its_utc_window_ends(limiter, clock, limit, wait_seconds):
    """Used up on 23 November at 10:00: the day's is back at midnight, the month's in December."""
    principal = caller(plan_of(**{limit: 500}))

    def use(chars: int) -> None:
        limiter.settle(ask(limiter, principal, chars).lease, used_chars=chars, finish="length")

    use(400)
    refused = ask(limiter, principal, 101)
    assert (refused.code, refused.binding) == ("quota_exceeded", limit)
    assert refused.retry_after_ms == wait_seconds * 1000
    use(100)
    clock.advance(wait_seconds - 0.001)
    assert not ask(limiter, principal).allowed
    clock.advance(0.001)
    assert ask(limiter, principal, 500).allowed


def test_a_slot_is_free_again_when_its_request_is_settled(limiter):
    """The concurrency cap counts running requests, and says so in its own code."""
    principal = caller(plan_of(concurrency=2))
    first, _second = ask(limiter, principal), ask(limiter, principal)
    refused = ask(limiter, principal)
    assert (refused.code, refused.binding) == ("too_many_concurrent", "concurrency")
    assert refused.retry_after_ms == 1000
    limiter.settle(first.lease, used_chars=1, finish="length")
    assert ask(limiter, principal).allowed
    assert not ask(limiter, principal).allowed


def test_what_could_never_be_admitted_says_so(limiter):
    """More than the plan's largest request, bucket or quota is exceeds_plan, not a wait."""
    for plan, binding in (
        (plan_of(max_num_chars=1000), "max_num_chars"),
        (plan_of(chars_per_minute=1000), "chars_per_minute"),
        (plan_of(chars_per_day=1000), "chars_per_day"),
        (plan_of(chars_per_month=1000), "chars_per_month"),
    ):
        decision = ask(limiter, caller(plan), 1001)
        assert (decision.code, decision.binding) == ("exceeds_plan", binding)
        assert decision.retry_after_ms is None
        assert ask(limiter, caller(plan, key_id=binding), 1000).allowed


def test_a_clock_that_steps_back_refills_nothing(limiter, clock):
    """Time that was already counted is not counted again."""
    principal = caller(plan_of(requests_per_minute=6))
    assert all(ask(limiter, principal).allowed for _ in range(6))
    clock.advance(-5)
    assert not ask(limiter, principal).allowed
    clock.advance(14.999)
    assert not ask(limiter, principal).allowed
    clock.advance(0.001)
    assert ask(limiter, principal).allowed


def test_a_changed_plan_keeps_what_was_used(limiter, clock):
    """An upgrade adds the difference, and the time to wait follows the new rate at once."""
    small, large = plan_of(requests_per_minute=10), plan_of(requests_per_minute=60)
    assert all(ask(limiter, caller(small)).allowed for _ in range(10))
    decision = ask(limiter, caller(large))
    assert remaining(decision)["requests_per_minute"] == 49
    refused = ask(limiter, caller(small))
    assert refused.retry_after_ms == 12_000  # 11 were used: two must come back at ten a minute
    clock.advance(12)
    assert ask(limiter, caller(small)).allowed


def test_a_revoked_key_is_refused_by_the_next_call(limiter, client):
    """The marker alone is enough, whatever this instance's keyring still says."""
    assert ask(limiter, caller()).allowed
    client.set(revoked_marker("acme", caller().key_id), "1", ex=60)
    decision = ask(limiter, caller())
    assert (decision.code, decision.limits) == ("invalid_key", ())
    assert limiter.peek(caller()).code == "invalid_key"


def test_every_answer_carries_the_current_keyring_version(limiter, client):
    """Admitted or not, the caller learns whether its keyring is stale; unknown is None."""
    principal = caller(plan_of(requests_per_minute=1))
    assert ask(limiter, principal).keyring_version is None
    client.set(keyring_pointer_copy("keyring-00", tenant_group("acme")), 7)
    assert ask(limiter, principal).keyring_version == 7
    assert limiter.peek(principal).keyring_version == 7
    client.set(revoked_marker("acme", principal.key_id), "1", ex=60)
    assert ask(limiter, principal).keyring_version == 7


def test_an_old_secret_ends_grace_after_the_new_ones_first_use(limiter, clock):
    """It works until then, told when; the new one always works; a refusal is invalid_key."""
    started = clock.ms // 1000
    rotation = Rotation(started_at=started, deadline=started + 86_400, grace_seconds=3600)
    old = caller(secret_role=SecretRole.OLD, rotation=rotation)
    new = caller(secret_role=SecretRole.NEW, rotation=rotation)
    assert ask(limiter, old).sunset_at == rotation.deadline
    clock.advance(60)
    assert ask(limiter, new).sunset_at is None
    clock.advance(1000)
    assert ask(limiter, new).allowed  # a later use moves nothing
    assert ask(limiter, old).sunset_at == started + 60 + 3600
    clock.advance(2600 - 0.001)
    assert ask(limiter, old).allowed
    clock.advance(0.001)
    assert ask(limiter, old).code == "invalid_key"
    assert limiter.peek(old).code == "invalid_key"
    assert ask(limiter, new).allowed


def test_an_old_secret_never_outlives_its_deadline(limiter, clock):
    """Without any use of the new one, and whatever the grace, the deadline holds."""
    started = clock.ms // 1000
    rotation = Rotation(started_at=started, deadline=started + 100, grace_seconds=3600)
    old = caller(secret_role=SecretRole.OLD, rotation=rotation)
    ask(limiter, caller(secret_role=SecretRole.NEW, rotation=rotation))
    assert ask(limiter, old).sunset_at == rotation.deadline
    clock.advance(100)
    assert ask(limiter, old).code == "invalid_key"


def test_a_later_rotation_starts_afresh(limiter, clock):
    """The first use that ended one rotation does not end the next."""
    started = clock.ms // 1000
    first = Rotation(started_at=started, deadline=started + 1000, grace_seconds=0)
    ask(limiter, caller(secret_role=SecretRole.NEW, rotation=first))
    second = Rotation(started_at=started + 1, deadline=started + 2000, grace_seconds=0)
    assert ask(limiter, caller(secret_role=SecretRole.OLD, rotation=second)).allowed


def test_peek_charges_nothing_and_tells_what_acquire_would_say(limiter):
    """Reading one's own account is free; a refusal is foretold with its wait."""
    principal = caller(plan_of(chars_per_minute=6000))
    for _ in range(30):
        assert remaining(limiter.peek(principal))["requests_per_minute"] == 600
    ask(limiter, principal, 5000)
    assert remaining(limiter.peek(principal))["chars_per_minute"] == 1000
    assert limiter.peek(principal, chars=1000).code is None
    refused = limiter.peek(principal, chars=1100)
    assert (refused.code, refused.retry_after_ms) == ("rate_limited", 1000)
    assert limiter.peek(principal, chars=6001).code == "exceeds_plan"
    assert limiter.usage("acme", [principal.key_id], date.min, date.max)[0].refused == 0


def test_limits_are_told_in_their_fixed_order_with_their_windows(limiter):
    """Headers and accounts are built from these: names, windows and what is left."""
    decision = ask(limiter, caller(), 100)
    assert tuple(state.name for state in decision.limits) == LIMIT_NAMES
    assert [state.window_seconds for state in decision.limits] == [60, 60, 86_400, 2_592_000, 0]
    assert [state.remaining for state in decision.limits] == [599, 59_900, 999_900, 9_999_900, 99]
    resets = [state.reset_seconds for state in decision.limits]
    assert resets == [0.1, 0.1, 14 * 3600, (7 * 24 + 14) * 3600, 0]


def test_one_command_on_the_way_in_and_one_on_the_way_out(limiter, client):
    """A charged and settled request costs Redis two commands."""
    limiter.settle(ask(limiter, caller()).lease, used_chars=1, finish="length")
    client.config_resetstat()
    for _ in range(10):
        limiter.settle(ask(limiter, caller()).lease, used_chars=1, finish="length")
    stats = client.info("commandstats")  # counts the commands inside the scripts too
    assert stats["cmdstat_evalsha"]["calls"] == 20
    assert not {"cmdstat_eval", "cmdstat_ping", "cmdstat_hello", "cmdstat_script"} & set(stats)


def test_tenants_and_keys_do_not_touch_each_other(limiter):
    """The same key id at another tenant, and another key of the tenant, have their own limits."""
    plan = plan_of(requests_per_minute=1)
    for principal in (
        caller(plan),
        caller(plan, tenant="globex"),
        caller(plan, key_id="ba9876543210"),
    ):
        assert ask(limiter, principal).allowed
        assert not ask(limiter, principal).allowed


def test_every_redis_key_ends_and_names_no_secret(limiter, client, clock):
    """Whatever was done, each key has a time-to-live, under a name of known parts."""
    rotation = Rotation(clock.ms // 1000, clock.ms // 1000 + 600, 60)
    plan = plan_of(requests_per_minute=3)
    for role in (SecretRole.NEW, SecretRole.OLD):
        for _ in range(3):
            ask(limiter, caller(plan, secret_role=role, rotation=rotation), 5, lease_seconds=1)
    clock.advance(2)
    ask(limiter, caller(plan), 5)
    names = list(client.scan_iter())
    assert names
    for name in names:
        assert client.pttl(name) > 0, name
        assert name.startswith(f"{tenant_base('acme')}:0123456789ab:") or name == "qg:instances"


def test_threads_on_one_key_admit_exactly_the_quota(redis_url):
    """Fifty threads, two limiters, one Redis and its own clock: ten are admitted, not one more."""
    limiters = [RedisLimiter(redis_url, timeout_seconds=10) for _ in range(2)]
    principal = caller(plan_of(requests_per_minute=10))
    codes: Counter[str | None] = Counter()
    start = threading.Barrier(50)

    def one(index: int) -> None:
        start.wait()
        codes[ask(limiters[index % 2], principal).code] += 1

    threads = [threading.Thread(target=one, args=(index,)) for index in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for limiter in limiters:
        limiter.close()
    assert codes == {None: 10, "rate_limited": 40}


@pytest.mark.parametrize(("chars", "lease_seconds"), [(-1, 1.0), (1, 0.0)])
def test_a_charge_that_makes_no_sense_is_an_error_of_the_caller(limiter, chars, lease_seconds):
    """A negative cost would be a gift."""
    with pytest.raises(ValueError, match="chars"):
        ask(limiter, caller(), chars, lease_seconds=lease_seconds)


def test_losing_the_scripts_is_not_losing_redis(limiter, client: redis.Redis):
    """SCRIPT FLUSH (or a Redis that was replaced) costs one more command, not an outage."""
    principal = caller(plan_of(requests_per_minute=2))
    assert ask(limiter, principal).allowed
    client.script_flush()
    second = ask(limiter, principal)
    assert second.lease is not None
    assert not second.lease.local
    assert not ask(limiter, principal).allowed


def test_an_admitted_request_notes_when_and_from_where(limiter, client, clock):
    """Last used costs no call of its own; a refused request is not a use."""
    principal = caller(plan_of(requests_per_minute=1))
    assert ask(limiter, principal).allowed
    clock.advance(1)
    assert not ask(limiter, principal).allowed
    noted = client.hgetall(last_used("acme", principal.key_id))
    assert noted == {"at": "1795428000", "address": "192.0.2.7"}


def test_reading_an_account_is_a_use_too(limiter, client, clock):
    """An admin's key that never generates is not listed as unused."""
    principal = caller()
    limiter.peek(principal, address="192.0.2.8")
    noted = client.hgetall(last_used("acme", principal.key_id))
    assert noted == {"at": "1795428000", "address": "192.0.2.8"}
