"""Everything the service asks of Redis, asked of a Redis Cluster."""

from __future__ import annotations

import time
from datetime import date

import pytest
import redis

from api.limits.limiter import LimiterEvent, RedisLimiter
from auth.principal import Rotation, SecretRole
from auth.propagation import Propagation
from auth.propagation_keys import GROUPS, keyring_pointer, keyring_pointer_copy, tenant_group
from tests.support.callers import caller
from tests.support.redis_server import RedisServer


@pytest.fixture
def lost() -> list[str]:
    return []


@pytest.fixture
def limiter(redis_cluster: RedisServer, lost: list[str]):
    def note(event: LimiterEvent, detail: str) -> None:
        lost.append(f"{event} {detail}")

    limiter = RedisLimiter(redis_cluster.url, timeout_seconds=10, on_event=note)
    yield limiter
    limiter.close()


def test_a_script_over_several_slots_would_be_refused(redis_cluster):
    """The control of this file: this Redis does refuse what a cluster refuses."""
    with (
        redis.Redis.from_url(redis_cluster.url) as client,
        pytest.raises(redis.ResponseError, match=r"(?i)slot"),
    ):
        client.eval("return redis.call('EXISTS', KEYS[1], KEYS[2])", 2, "{a}", "{b}")


def test_limits_hold_on_a_cluster(redis_cluster, limiter, lost):
    """Admit, settle, peek, the ledger, rotation and revocation: nothing crosses a slot."""
    now = int(time.time())
    rotation = Rotation(now - 10, now + 600, 60)
    propagation = Propagation(redis_cluster.url, timeout_seconds=10)
    tenants = ["acme", "globex", "initech"]
    assert len({tenant_group(tenant) for tenant in tenants}) == 3
    for tenant in tenants:
        principal = caller(tenant=tenant, secret_role=SecretRole.NEW, rotation=rotation)
        for _ in range(3):
            decision = limiter.acquire(principal, chars=9, lease_seconds=60, address="192.0.2.7")
            limiter.settle(decision.lease, used_chars=5, finish="length")
            assert not decision.lease.local
        assert limiter.peek(principal).limits
        rows = limiter.usage(tenant, [principal.key_id, "b" * 12], date.min, date.max)
        assert [(row.chars, row.requests) for row in rows] == [(15, 3)]
        assert propagation.first_use(tenant, principal.key_id, rotation.started_at) >= now
        assert principal.key_id in propagation.last_used(tenant, [principal.key_id])
        propagation.revoke(tenant, principal.key_id)
        assert limiter.peek(principal).code == "invalid_key"
    propagation.close()
    assert lost == []


def test_every_tenant_hears_of_a_new_keyring(redis_cluster, limiter):
    """One publication reaches each hash tag, so also a tenant that was never seen before."""
    propagation = Propagation(redis_cluster.url, timeout_seconds=10)
    first = propagation.publish("keyring-00", {"keyring-00-shard-0": 1})
    pointer = propagation.publish("keyring-00", {"keyring-00-shard-0": 2})
    assert pointer > first
    assert propagation.versions("keyring-00") == (pointer, {"keyring-00-shard-0": 2})
    for number in range(200):
        decision = limiter.peek(caller(tenant=f"tenant-{number}"))
        assert decision.keyring_version == pointer
    propagation.close()


def test_a_copy_of_the_pointer_never_goes_back(redis_cluster):
    """Two who publish may tell their copies in either order; the later pointer stays."""
    propagation = Propagation(redis_cluster.url, timeout_seconds=10)
    pointer = propagation.publish("keyring-00", {"a": 1})
    with redis.Redis.from_url(redis_cluster.url) as client:
        ahead = keyring_pointer_copy("keyring-00", 7)
        client.set(ahead, pointer + 5)
        assert propagation.publish("keyring-00", {"a": 1}) == pointer
        assert int(client.get(ahead)) == pointer + 5
        assert int(client.get(keyring_pointer("keyring-00"))) == pointer
        copies = {client.get(keyring_pointer_copy("keyring-00", one)) for one in range(GROUPS)}
    assert copies == {str(pointer).encode(), str(pointer + 5).encode()}
    propagation.close()
