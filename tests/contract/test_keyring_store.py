"""What every instance promises about keys, over both kinds of secret store and a real Redis."""

from __future__ import annotations

import pytest
import redis

from auth.api_key import mint
from auth.errors import (
    AddressNotAllowedError,
    InvalidKeyError,
    KeyRefusal,
    KeyringUnavailableError,
    TenantDisabledError,
    UnknownPlanError,
)
from auth.principal import Scope, SecretRole
from auth.secrets import SecretStoreUnavailableError
from tests.support.auth_world import PREFIX, FlakyStore, World

DAY = 86_400


def refusal(world: World, keyring, key: str | None) -> KeyRefusal:
    with pytest.raises(InvalidKeyError) as caught:
        keyring.authenticate(key, "192.0.2.9", world.clock())
    return caught.value.reason


def current_pointer(world: World) -> int:
    return world.propagation().current_version(PREFIX)


def test_a_key_becomes_the_principal_that_was_issued(world: World) -> None:
    """Tenant, plan, scopes, expiry and networks of a principal are those of the issue."""
    admin = world.tenant()
    issued = admin.keys.issue(
        "acme",
        "ci",
        ["generate", "usage:read"],
        plan="partner",
        expires_at=int(world.clock()) + DAY,
        allowed_cidrs=["192.0.2.0/24"],
    )
    principal = world.principal(world.loaded(), issued["key"])
    assert (principal.key_id, principal.name, principal.tenant) == (issued["key_id"], "ci", "acme")
    assert principal.plan.name == "partner"
    assert principal.scopes == {Scope.GENERATE, Scope.USAGE_READ}
    assert principal.expires_at == world.clock() + DAY
    assert principal.allowed_cidrs == ("192.0.2.0/24",)
    assert (principal.secret_role, principal.rotation) == (SecretRole.ONLY, None)


def test_a_key_just_issued_works_at_once(world: World) -> None:
    """An instance that was loaded before a key existed accepts it on its first request."""
    admin, keyring = world.tenant(), world.loaded()
    assert world.accepted(keyring, admin.keys.issue("acme", "ci", ["generate"])["key"])


def test_an_unknown_key_costs_one_read_of_redis_and_none_of_the_store(world: World) -> None:
    """Guessing key ids neither loads the secret store nor more than one Redis command each."""
    world.tenant()
    store = FlakyStore(world.open_store())
    keyring = world.loaded(store)
    store.asked.clear()
    with redis.Redis.from_url(world.redis_url) as client:
        client.config_resetstat()
        for _ in range(5):
            assert refusal(world, keyring, mint("live").reveal()) is KeyRefusal.UNKNOWN
        calls = {name: stats["calls"] for name, stats in client.info("commandstats").items()}
    assert store.asked == []
    assert calls["cmdstat_get"] == 5


def test_every_bad_key_is_the_same_error(world: World) -> None:
    """Missing, malformed, unknown, wrong, foreign, expired and revoked differ in the log alone."""
    admin = world.tenant()
    good = admin.keys.issue("acme", "good", ["generate"])
    expiring = admin.keys.issue("acme", "e", ["generate"], expires_at=int(world.clock()) + 60)
    revoked = admin.keys.issue("acme", "r", ["generate"])
    admin.keys.revoke(revoked["key_id"], "leaked")
    keyring = world.loaded()
    world.clock.now += 61
    assert refusal(world, keyring, None) is KeyRefusal.MISSING
    assert refusal(world, keyring, "") is KeyRefusal.MALFORMED
    assert refusal(world, keyring, good["key"][:-1]) is KeyRefusal.MALFORMED
    assert refusal(world, keyring, mint("live").reveal()) is KeyRefusal.UNKNOWN
    wrong_secret = mint("live", good["key_id"]).reveal()
    assert refusal(world, keyring, wrong_secret) is KeyRefusal.MISMATCH
    assert refusal(world, keyring, expiring["key"]) is KeyRefusal.EXPIRED
    assert refusal(world, keyring, revoked["key"]) is KeyRefusal.REVOKED
    staging = world.instance(label="test")
    staging.load()
    assert refusal(world, staging, good["key"]) is KeyRefusal.WRONG_LABEL


def test_addresses_outside_the_list_are_refused_v4_and_v6(world: World) -> None:
    """A key with networks works from inside them, however the address is spelt."""
    admin = world.tenant()
    issued = admin.keys.issue(
        "acme", "ci", ["generate"], allowed_cidrs=["10.1.0.0/16", "2001:db8::/32"]
    )
    keyring = world.loaded()
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "2001:0DB8:0:0::1"):
        assert world.accepted(keyring, issued["key"], address)
    for address in ("10.2.0.1", "2001:db9::1", "", "10.1.2.3, 1.1.1.1", "::ffff:10.2.0.1"):
        with pytest.raises(AddressNotAllowedError):
            keyring.authenticate(issued["key"], address, world.clock())


def test_a_disabled_tenant_is_refused_by_its_next_request(world: World) -> None:
    """The pointer that comes with every request tells also of changes to tenants."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    keyring = world.loaded()
    principal = world.principal(keyring, issued["key"])
    admin.tenants.disable("acme")
    assert keyring.observe(principal.keyring_shard, current_pointer(world))
    with pytest.raises(TenantDisabledError):
        world.principal(keyring, issued["key"])
    admin.tenants.enable("acme")
    assert world.accepted(keyring, issued["key"])


def test_an_instance_that_is_told_of_a_newer_version_reads_it_once(world: World) -> None:
    """`observe` says that a request must be checked again exactly when something was read."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    keyring = world.loaded()
    principal = world.principal(keyring, issued["key"])
    assert principal.keyring_version == current_pointer(world)
    assert not keyring.observe(principal.keyring_shard, principal.keyring_version)
    assert not keyring.observe(principal.keyring_shard, None)
    admin.keys.revoke(issued["key_id"])
    pointer = current_pointer(world)
    assert pointer > principal.keyring_version
    assert keyring.observe(principal.keyring_shard, pointer)
    assert not keyring.observe(principal.keyring_shard, pointer)
    assert not world.accepted(keyring, issued["key"])


def test_a_refusal_by_a_keyring_that_was_replaced_meanwhile_is_not_final(world: World) -> None:
    """Another request may read the newer keyring between this one's check and its look at Redis."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    keyring = world.loaded()
    rotated = admin.keys.rotate(issued["key_id"])
    ask_redis = keyring._keyring.ask_redis

    def after_another() -> bool:
        assert keyring.observe(PREFIX, current_pointer(world))
        return ask_redis()

    keyring._keyring.ask_redis = after_another
    assert world.accepted(keyring, rotated["key"])


def test_both_secrets_work_during_a_rotation_and_then_one(world: World) -> None:
    """The new secret works at once, the old one until the deadline; the id never changes."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    keyring = world.loaded()
    rotated = admin.keys.rotate(issued["key_id"], deadline_seconds=3600)
    assert rotated["key_id"] == issued["key_id"]
    new, old = world.principal(keyring, rotated["key"]), world.principal(keyring, issued["key"])
    assert (new.secret_role, old.secret_role) == (SecretRole.NEW, SecretRole.OLD)
    assert old.rotation.deadline == world.clock() + 3600
    world.clock.now += 3600
    assert refusal(world, keyring, issued["key"]) is KeyRefusal.ROTATED_OUT
    principal = world.principal(keyring, rotated["key"])
    assert (principal.secret_role, principal.rotation) == (SecretRole.ONLY, None)


def test_a_plan_that_the_plans_file_lacks_closes_its_keys_alone(world: World) -> None:
    """An unknown plan never means "unlimited", and harms no other tenant."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    admin.tenants.add("other", "partner")
    other = admin.keys.issue("other", "ci", ["generate"])
    keyring = world.loaded()
    keyring._plans = {name: plan for name, plan in keyring._plans.items() if name != "partner"}
    with pytest.raises(UnknownPlanError, match="partner"):
        world.principal(keyring, other["key"])
    assert world.accepted(keyring, issued["key"])
    assert keyring.ready  # it was: that others lack a plan is no reason to stop serving
    keyring.load()
    assert "partner (tenant other)" in keyring.why_not_ready
    admin.tenants.set_plan("other", "standard")
    assert world.accepted(keyring, other["key"])
    assert keyring.ready


def test_a_key_of_a_newer_keyring_that_cannot_be_read_is_not_called_unknown(world: World) -> None:
    """Redis told of it: its holder hears that the service cannot tell, and nobody counts it."""
    admin = world.tenant()
    store = FlakyStore(world.open_store())
    keyring = world.loaded(store)
    store.failure = SecretStoreUnavailableError("away")
    issued = admin.keys.issue("acme", "ci", ["generate"])
    with pytest.raises(KeyringUnavailableError):
        world.principal(keyring, issued["key"])
    store.failure = None
    world.clock.now += 2
    assert world.accepted(keyring, issued["key"])
