"""What an instance knows of keys, and when, as Redis and the secret store come and go."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from auth.api_key import mint
from auth.errors import (
    AdminRefusedError,
    KeyringUnavailableError,
    TenantDisabledError,
)
from auth.keyring_refresh import MAX_AGE_SECONDS, RECHECK_SECONDS
from auth.principal import SecretRole
from auth.propagation_keys import keyring_pointer
from auth.secrets import SecretStoreUnavailableError
from tests.support.auth_world import PREFIX, FlakyStore, World
from tests.support.secret_manager import SecretManagerServer


def current_pointer(world: World) -> int:
    return world.propagation().current_version(PREFIX)


def test_without_redis_a_change_is_seen_within_30_seconds(world: World) -> None:
    """The secret store is looked at on the request path, at most every 30 s for a document."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    store = FlakyStore(world.open_store())
    keyring = world.loaded(store, with_redis=False)
    admin.keys.revoke(issued["key_id"])
    store.asked.clear()
    assert world.accepted(keyring, issued["key"])
    assert store.asked == []
    world.clock.now += RECHECK_SECONDS + 1
    assert not world.accepted(keyring, issued["key"])
    looked = len(store.asked)
    world.clock.now += RECHECK_SECONDS - 1
    world.accepted(keyring, issued["key"])
    assert len(store.asked) == looked


def test_a_change_made_while_redis_was_away_is_seen_when_it_is_back(file_world, own_redis) -> None:
    """A revocation that Redis never heard of holds everywhere within 30 s of the next request."""
    world = file_world
    world.redis_url, world.redis_timeout_seconds = own_redis.url, 0.2
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    other = admin.keys.issue("acme", "other", ["generate"])
    keyring = world.loaded()
    own_redis.process.send_signal(19)  # SIGSTOP: it neither answers nor forgets
    try:
        world.clock.now += 2
        revoked = admin.keys.revoke(issued["key_id"])
        assert "Redis did not answer" in revoked["warnings"][0]
    finally:
        own_redis.process.send_signal(18)
    world.clock.now += RECHECK_SECONDS + 1
    assert world.accepted(keyring, other["key"])
    assert not world.accepted(keyring, issued["key"])


def test_an_emptied_redis_is_told_again(world: World) -> None:
    """When Redis lost the pointer, an instance compares everything and puts it back."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    keyring = world.loaded()
    pointer = current_pointer(world)
    with redis.Redis.from_url(world.redis_url) as client:
        client.flushall()
    world.clock.now += RECHECK_SECONDS + 1
    assert world.accepted(keyring, issued["key"])
    assert current_pointer(world) > pointer
    assert world.principal(keyring, issued["key"]).keyring_version == current_pointer(world)


def test_a_redis_set_back_to_an_older_state_is_corrected(world: World) -> None:
    """An old pointer, as from a backup, never brings an old keyring back."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    with redis.Redis.from_url(world.redis_url) as client:
        backup = {name: client.dump(name) for name in client.keys("*")}
        behind, keyring = world.loaded(), world.loaded()
        admin.keys.revoke(issued["key_id"])
        keyring.load()
        client.flushall()
        for name, value in backup.items():
            client.restore(name, 60_000, value)
    fresh = world.loaded()
    assert not world.accepted(fresh, issued["key"])
    assert behind.observe(PREFIX, current_pointer(world))
    for one in (behind, keyring):
        assert not world.accepted(one, issued["key"])


def test_aliases_that_lag_behind_hide_nothing_that_redis_knows(
    secret_manager: SecretManagerServer, redis_url: str
) -> None:
    """Secret Manager's aliases may be hours old: instances and admins still see every change."""
    from auth.secrets.google import GoogleSecretStore

    store = GoogleSecretStore("test-project", emulator_host=secret_manager.host)
    world = World(lambda: store, redis_url)
    admin = world.tenant()
    keyring = world.loaded()
    secret_manager.vault.hold()
    admin.tenants.add("late", "partner")
    issued = admin.keys.issue("late", "ci", ["generate"])
    rotated = admin.keys.rotate(issued["key_id"])
    for instance in (keyring, world.loaded()):
        assert world.principal(instance, issued["key"]).secret_role is SecretRole.OLD
        assert world.principal(instance, rotated["key"]).secret_role is SecretRole.NEW
    admin.keys.revoke(issued["key_id"])
    world.clock.now += 2 * RECHECK_SECONDS
    for instance in (keyring, world.loaded()):
        assert not world.accepted(instance, rotated["key"])
    store.close()


def test_every_redis_key_has_a_ttl_and_none_holds_a_key(world: World) -> None:
    """Redis never keeps anything for ever, nor anything worth stealing."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    admin.keys.revoke(issued["key_id"], "leaked")
    with redis.Redis.from_url(world.redis_url, decode_responses=True) as client:
        names = client.keys("*")
        assert keyring_pointer(PREFIX) in names
        assert all(client.ttl(name) > 0 for name in names)
        content = "".join(
            str(client.hgetall(name) if client.type(name) == "hash" else client.get(name))
            for name in names
        )
    assert issued["key"].split("_")[3] not in content + "".join(names)


def test_when_the_store_is_away_the_last_keyring_serves_for_a_day(world: World) -> None:
    """Stale is served up to its bound and said aloud; then nobody is let in until it is back."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    store = FlakyStore(world.open_store())
    keyring = world.loaded(store, with_redis=False)
    store.failure = SecretStoreUnavailableError("Secret Manager is away")
    for _ in range(3):
        world.clock.now += MAX_AGE_SECONDS / 4
        assert world.accepted(keyring, issued["key"])
    assert keyring.problem == "Secret Manager is away"
    assert keyring.age_seconds == MAX_AGE_SECONDS * 3 / 4
    assert keyring.ready
    world.clock.now += MAX_AGE_SECONDS / 2
    assert not keyring.ready
    assert "Secret Manager is away" in keyring.why_not_ready
    with pytest.raises(KeyringUnavailableError):
        world.principal(keyring, issued["key"])
    store.failure = None
    world.clock.now += RECHECK_SECONDS + 1
    assert keyring.ready
    assert world.accepted(keyring, issued["key"])


def test_a_version_that_could_not_be_read_is_read_as_soon_as_it_can_be(world: World) -> None:
    """Told of a change while the store is away, an instance asks again, request by request."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    store = FlakyStore(world.open_store())
    keyring = world.loaded(store)
    assert world.accepted(keyring, issued["key"])
    admin.tenants.disable("acme")
    store.failure = SecretStoreUnavailableError("away")
    for _ in range(3):
        assert not keyring.observe(PREFIX, current_pointer(world))
        assert world.accepted(keyring, issued["key"])
        world.clock.now += 1
    store.failure = None
    world.clock.now += 1
    assert keyring.observe(PREFIX, current_pointer(world))
    with pytest.raises(TenantDisabledError):
        world.principal(keyring, issued["key"])


def test_a_malformed_secret_never_replaces_a_good_keyring(world: World) -> None:
    """Whatever is written into a shard, keys that worked go on working, and the reason shows."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    keyring = world.loaded()
    store = world.open_store()
    for index in range(4):
        name = world.names.shard(index)
        number = store.add_version(name, b'{"keys": {}}')
        store.move_alias(name, "current", number, store.read_alias(name, "current").etag)
        world.propagation().publish(PREFIX, {name: number})
    world.clock.now += 2
    keyring.observe(PREFIX, current_pointer(world))
    assert world.accepted(keyring, issued["key"])
    assert "keyring-00" in keyring.problem


def test_an_instance_without_a_keyring_is_never_ready_and_says_why(world: World) -> None:
    """Before the set-up nobody is let in; the reason is one line, and names the way out."""
    keyring = world.instance()
    assert not keyring.ready
    with pytest.raises(KeyringUnavailableError, match="tenants add"):
        keyring.load()
    assert not keyring.ready
    assert "\n" not in keyring.why_not_ready
    with pytest.raises(KeyringUnavailableError):
        keyring.authenticate(mint("live").reveal(), "192.0.2.9", world.clock())
    world.tenant()
    keyring.load()
    assert keyring.ready


def test_another_number_of_shards_starts_nothing_and_hides_no_key(world: World) -> None:
    """KEYRING_SHARDS changed on a keyring that lives: an instance says so and is not ready, an
    admin's set-up is refused, and every key is where it was."""
    admin = world.tenant()
    keys = [admin.keys.issue("acme", f"key {n}", ["generate"])["key"] for n in range(8)]
    wrong = world.instance(wanted_shards=world.shards * 2)
    said = f"KEYRING_SHARDS is {world.shards * 2}, .* set it to {world.shards} or leave it out"
    with pytest.raises(KeyringUnavailableError, match=said):
        wrong.load()
    assert not wrong.ready
    assert "KEYRING_SHARDS" in (wrong.why_not_ready or "")
    with pytest.raises(AdminRefusedError, match=said):
        replace(world, shards=world.shards * 2).admin().tenants.add("other", "free")
    for wanted in (None, world.shards):
        right = world.instance(wanted_shards=wanted)
        right.load()
        assert [world.accepted(right, key) for key in keys] == [True] * 8
    assert [one["tenant"] for one in admin.tenants.list()] == ["acme"]
