"""A new pepper costs no partner anything: secrets move to it as they are used."""

from __future__ import annotations

import pytest
import redis

from auth import directory as directories
from auth.audit import AuditLog
from auth.changes import Changes
from auth.documents import Documents
from auth.errors import AdminRefusedError, InvalidKeyError, MalformedKeyringError
from auth.secrets import SecretNotFoundError, SecretStoreUnavailableError
from auth.write_back import WriteBack
from tests.support.auth_world import PREFIX, FlakyStore, World

DAY = 86_400


@pytest.fixture
def world(file_world: World) -> World:
    return file_world


class Instance:
    """An API process: a keyring, and moves that are written when the test says so."""

    def __init__(self, world: World) -> None:
        self.world, self.store, self.due = world, FlakyStore(world.open_store()), []
        documents = Documents(self.store)
        audit = AuditLog(self.store, documents, world.names)
        changes = Changes(documents, audit, world.propagation(), world.names, clock=world.clock)
        moves = WriteBack(
            changes, world.names, later=lambda seconds, run: self.due.append((seconds, run))
        )
        self.keyring = world.instance(self.store)
        self.keyring._moves = moves
        self.keyring.load()

    def use(self, key: str) -> None:
        self.keyring.observe(PREFIX, self.world.propagation().current_version(PREFIX))
        self.world.principal(self.keyring, key)

    def write(self) -> None:
        while self.due:
            self.due.pop()[1]()


def secrets_under(admin) -> dict[str, int]:
    return {one["pepper"]: one["secrets"] for one in admin.peppers.status()["peppers"]}


@pytest.mark.parametrize("ended", ["by force", "by its deadline"])
def test_a_key_left_under_a_pepper_that_ended_is_not_called_active(world, ended):
    """It is refused for ever, so the list says so and what brings it back: a rotation."""
    admin = world.tenant()
    old = admin.keys.issue("acme", "idle", ["generate"])
    admin.peppers.rotate()
    new = admin.keys.issue("acme", "new", ["generate"])
    assert {one["state"] for one in admin.keys.list()} == {"active"}
    if ended == "by force":
        admin.peppers.retire(force=True)
    else:
        world.clock.now += 90 * DAY
    states = {one["key_id"]: one["state"] for one in admin.keys.list()}
    assert states == {old["key_id"]: "pepper ended", new["key_id"]: "active"}
    assert not world.accepted(world.loaded(), old["key"])
    shown = admin.keys.show(old["key_id"])
    assert "keys rotate" in shown["warnings"][0]
    rotated = admin.keys.rotate(old["key_id"])
    assert world.accepted(world.loaded(), rotated["key"])
    assert admin.keys.show(old["key_id"])["state"] == "active"


def test_secrets_move_to_the_new_pepper_when_they_are_used(world):
    """No key is issued again; when all have moved the old pepper goes, and every key works on."""
    admin = world.tenant()
    keys = [admin.keys.issue("acme", f"key {n}", ["generate"])["key"] for n in range(3)]
    rotated = admin.keys.rotate(keys[2].split("_")[2])["key"]
    instance = Instance(world)
    assert admin.peppers.rotate()["pepper_id"] == "p2"
    assert secrets_under(admin) == {"p1": 4, "p2": 0}
    for key in (*keys, rotated):
        instance.use(key)
        instance.use(key)
    assert len(instance.due) == 1
    instance.write()
    assert secrets_under(admin) == {"p1": 0, "p2": 4}
    for key in (*keys, rotated):
        instance.use(key)
    assert instance.due == []
    admin.peppers.retire()
    with pytest.raises(SecretNotFoundError):
        world.open_store().access(world.names.pepper("p1"), 1)
    for keyring in (instance.keyring, world.loaded()):
        assert all(world.accepted(keyring, key) for key in (*keys, rotated))
    assert admin.verify_audit()["whole"]


def test_the_first_use_of_a_new_secret_outlives_redis(world):
    """Recorded soon after: an emptied Redis brings no old secret back and cancels nothing."""
    admin = world.tenant()
    old = admin.keys.issue("acme", "ci", ["generate"])
    new = admin.keys.rotate(old["key_id"], grace_seconds=60)
    instance = Instance(world)
    instance.use(old["key"])
    assert instance.due == []
    instance.use(new["key"])
    world.clock.now += 10
    instance.use(new["key"])
    instance.write()
    with redis.Redis.from_url(world.redis_url) as client:
        client.flushdb()
    shown = admin.keys.show(old["key_id"])["rotation"]
    assert shown["first_used_at"] == world.clock() - 10
    assert shown["old_secret_ends_at"] == world.clock() + 50
    with pytest.raises(AdminRefusedError, match="has been used"):
        admin.keys.cancel_rotation(old["key_id"])
    keyring = world.loaded()
    world.clock.now += 49
    assert [world.accepted(keyring, one["key"]) for one in (old, new)] == [True, True]
    world.clock.now += 1
    assert [world.accepted(keyring, one["key"]) for one in (old, new)] == [False, True]
    assert admin.verify_audit()["whole"]


def test_an_old_pepper_in_use_is_neither_replaced_nor_ended_unless_forced(world):
    """At most two peppers count, and none goes while a key in use needs it."""
    admin = world.tenant()
    key = admin.keys.issue("acme", "ci", ["generate"])["key"]
    with pytest.raises(AdminRefusedError, match="one pepper only"):
        admin.peppers.retire()
    admin.peppers.rotate()
    for operation in (admin.peppers.rotate, admin.peppers.retire):
        with pytest.raises(AdminRefusedError, match="1 secrets are still under"):
            operation()
    assert world.accepted(world.loaded(), key)
    admin.peppers.retire(force=True)
    assert not world.accepted(world.loaded(), key)


def test_after_the_deadline_the_old_pepper_counts_no_more(world):
    """A key that nobody used until then is refused, by running instances too, and unasked."""
    admin = world.tenant()
    unused = admin.keys.issue("acme", "unused", ["generate"])["key"]
    used = admin.keys.issue("acme", "used", ["generate"])["key"]
    instance = Instance(world)
    admin.peppers.rotate(deadline_seconds=2 * DAY)
    instance.use(used)
    instance.write()
    world.clock.now += 2 * DAY - 1
    instance.use(unused)
    instance.due.clear()
    world.clock.now += 1
    with pytest.raises(InvalidKeyError):
        instance.use(unused)
    instance.use(used)
    assert admin.peppers.retire()["peppers"][0]["pepper"] == "p2"


def test_a_move_that_cannot_be_written_is_tried_again(world):
    """While the store is away nothing is lost: the old pepper counts, the move waits."""
    admin = world.tenant()
    key = admin.keys.issue("acme", "ci", ["generate"])["key"]
    instance = Instance(world)
    admin.peppers.rotate()
    instance.use(key)
    instance.store.failure = SecretStoreUnavailableError("away")
    instance.due.pop()[1]()
    assert secrets_under(admin) == {"p1": 1, "p2": 0}
    assert [seconds for seconds, _ in instance.due] == [60.0]
    instance.store.failure = None
    instance.write()
    assert secrets_under(admin) == {"p1": 0, "p2": 1}


def test_a_move_does_not_bring_back_what_was_rotated_out_or_revoked(world):
    """What happened to the key between its use and the write stands."""
    admin = world.tenant()
    rotated, revoked = (admin.keys.issue("acme", name, ["generate"]) for name in "ab")
    instance = Instance(world)
    admin.peppers.rotate()
    instance.use(rotated["key"])
    instance.use(revoked["key"])
    new = admin.keys.rotate(rotated["key_id"], deadline_seconds=0)["key"]
    admin.keys.revoke(revoked["key_id"])
    instance.write()
    keyring = world.loaded()
    assert world.accepted(keyring, new)
    assert not world.accepted(keyring, rotated["key"])
    assert not world.accepted(keyring, revoked["key"])


@pytest.mark.parametrize("days", [0, 401])
def test_a_peppers_deadline_is_bounded(world, days):
    """Not so short that it ends keys in daily use, not so long that it is none."""
    admin = world.tenant()
    with pytest.raises(AdminRefusedError, match="1d to 400d"):
        admin.peppers.rotate(deadline_seconds=days * DAY)


def test_a_directory_written_before_there_were_deadlines_is_read():
    """A store that was set up by an older release goes on serving."""
    body = {"shards": 4, "pepper_id": "p1", "pepper_ids": ["p1"], "tenants": {}}
    assert directories.from_body(body).pepper_deadlines == {}
    for deadlines in ({"p1": 1}, {"p2": 1}, {"p0": "soon"}, []):
        with pytest.raises(MalformedKeyringError, match="pepper_deadlines"):
            directories.from_body(body | {"pepper_deadlines": deadlines})
