"""Rotation and revocation by an admin: what lives on, until when, and what is refused."""

from __future__ import annotations

import pytest
import redis

from auth.admin import KeySettings
from auth.admin_bulk import Revocation
from auth.api_key import parse
from auth.errors import AdminRefusedError
from auth.propagation_keys import revoked_marker
from auth.secrets import SecretPermissionError, SecretStoreUnavailableError
from tests.support.auth_world import FlakyStore, World
from tests.support.keyring_parts import Line

DAY = 86_400


@pytest.fixture
def world(file_world: World, quick_passwords) -> World:
    return file_world


def refused(match: str):
    return pytest.raises(AdminRefusedError, match=match)


def test_a_second_rotation_while_two_secrets_live_is_refused_unless_forced(world):
    """Forced, the older of the two ends at once, and two live again."""
    admin = world.tenant()
    first = admin.keys.issue("acme", "ci", ["generate"])
    key_id = first["key_id"]
    second = admin.keys.rotate(key_id)
    with refused("--force"):
        admin.keys.rotate(key_id)
    third = admin.keys.rotate(key_id, force=True)
    keyring = world.loaded()
    accepted = [world.accepted(keyring, one["key"]) for one in (first, second, third)]
    assert accepted == [False, True, True]
    started = [one["rotation"]["started_at"] for one in (second, third)]
    assert started[1] > started[0]


def test_a_rotation_is_never_taken_for_one_that_was_over_before_it(world):
    """Several within a second: what was the first use of an earlier new secret ends nothing now."""
    admin = world.tenant()
    key_id = admin.keys.issue("acme", "ci", ["generate"])["key_id"]
    admin.keys.rotate(key_id)
    used = admin.keys.rotate(key_id, force=True, grace_seconds=0)
    world.first_use(key_id, used["rotation"]["started_at"], world.clock())
    for _ in range(2):
        admin.keys.rotate(key_id, deadline_seconds=0)
    last = admin.keys.rotate(key_id, grace_seconds=0)
    assert last["rotation"]["first_used_at"] is None
    assert last["rotation"]["old_secret_ends_at"] == world.clock() + 7 * DAY


def test_the_old_secret_of_a_rotation_does_not_rotate(world):
    """Whoever has what leaked cannot take the key from its holder, forced or not."""
    admin = world.tenant()
    first = admin.keys.issue("acme", "ci", ["generate"])
    key_id = first["key_id"]
    second = admin.keys.rotate(key_id, by=first["key"])
    for force in (False, True):
        with refused("this is the old secret"):
            admin.keys.rotate(key_id, by=first["key"], force=force)
    third = admin.keys.rotate(key_id, by=second["key"], force=True)
    with refused("was rotated meanwhile"):
        admin.keys.rotate(key_id, by=first["key"], force=True)
    with refused("send force: true"):
        admin.keys.rotate(key_id, by=third["key"])
    assert world.accepted(world.loaded(), third["key"])


def test_a_rotation_whose_grace_is_over_does_not_stand_in_the_way(world):
    """Grace counts from the first use of the new secret, which the limiter noted in Redis."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    rotated = admin.keys.rotate(issued["key_id"], grace_seconds=60)
    world.first_use(issued["key_id"], rotated["rotation"]["started_at"], world.clock())
    view = admin.keys.show(issued["key_id"])
    assert view["rotation"]["old_secret_ends_at"] == world.clock() + 60
    world.clock.now += 59
    with refused("two live secrets"):
        admin.keys.rotate(issued["key_id"])
    world.clock.now += 1
    assert admin.keys.show(issued["key_id"])["rotation"] is None
    again = admin.keys.rotate(issued["key_id"])
    keyring = world.loaded()
    assert [world.accepted(keyring, one["key"]) for one in (issued, rotated, again)] == [
        *(False, True, True),
    ]


def test_grace_never_goes_past_the_deadline(world):
    """However late the first use is, the deadline is the end."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    rotated = admin.keys.rotate(issued["key_id"], deadline_seconds=100, grace_seconds=1000)
    world.clock.now += 50
    world.first_use(issued["key_id"], rotated["rotation"]["started_at"], world.clock())
    ends = admin.keys.show(issued["key_id"])["rotation"]["old_secret_ends_at"]
    assert ends == rotated["rotation"]["deadline"] == world.clock() + 50


def test_a_deadline_of_nothing_ends_the_old_secret_at_once(world):
    """For a leaked key whose holder must go on under the same id."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    rotated = admin.keys.rotate(issued["key_id"], deadline_seconds=0)
    keyring = world.loaded()
    assert not world.accepted(keyring, issued["key"])
    assert world.accepted(keyring, rotated["key"])
    assert rotated["rotation"] is None


@pytest.mark.parametrize("days", [-1, 91])
def test_a_deadline_is_bounded(world, days):
    """Two secrets do not live side by side for ever."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    with refused("at most 90d"):
        admin.keys.rotate(issued["key_id"], deadline_seconds=days * DAY)


def test_a_rotation_can_be_cancelled_until_its_new_secret_is_used(world):
    """Cancelled, the new secret is dead and the old one is the only one again."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    key_id = issued["key_id"]
    with refused("not being rotated"):
        admin.keys.cancel_rotation(key_id)
    rotated = admin.keys.rotate(key_id)
    assert admin.keys.cancel_rotation(key_id)["rotation"] is None
    keyring = world.loaded()
    assert world.accepted(keyring, issued["key"])
    assert not world.accepted(keyring, rotated["key"])
    world.clock.now += 5
    rotated = admin.keys.rotate(key_id)
    world.first_use(key_id, rotated["rotation"]["started_at"], world.clock())
    with refused("has been used"):
        admin.keys.cancel_rotation(key_id)


def test_a_rotation_that_redis_heard_of_late_can_be_cancelled(world):
    """Redis was away for seconds while it was written: its new secret had not been shown yet."""
    admin = world.tenant()
    key_id = admin.keys.issue("acme", "ci", ["generate"])["key_id"]
    line = Line(world.propagation(), world.clock)
    line.away_until = world.clock() + 3
    assert "warnings" not in world.admin(propagation=line).keys.rotate(key_id)
    assert not line.cut
    assert admin.keys.cancel_rotation(key_id)["rotation"] is None


def test_an_emptied_redis_cancels_no_rotation(world):
    """Whether the new secret is in use is then unknown, and its holder must not be locked out."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    rotated = admin.keys.rotate(issued["key_id"])
    with redis.Redis.from_url(world.redis_url) as client:
        client.flushdb()
    with refused("nobody knows if the new secret was used"):
        admin.keys.cancel_rotation(issued["key_id"])
    assert world.accepted(world.loaded(), rotated["key"])


def test_an_expired_or_revoked_key_is_not_rotated(world):
    """A dead key does not come back to life by a new secret."""
    admin = world.tenant()
    expiring = admin.keys.issue("acme", "a", ["generate"], expires_at=int(world.clock()) + 1)
    revoked = admin.keys.issue("acme", "b", ["generate"])
    admin.keys.revoke(revoked["key_id"])
    world.clock.now += 1
    for key, state in ((expiring, "expired"), (revoked, "revoked")):
        with refused(state):
            admin.keys.rotate(key["key_id"])


def test_revocation_marks_the_key_in_redis_before_it_writes_the_keyring(world):
    """The next request is refused even while the secret store is still slow or away.

    Nor does anybody rotate or change what is dead, and think that it is alive.
    """
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    key_id = issued["key_id"]
    rotated = admin.keys.rotate(key_id)
    store = FlakyStore(world.open_store())
    away = world.admin(store)
    store.failure = SecretStoreUnavailableError("away")
    view = away.keys.revoke(key_id)
    assert view["state"] == "revoked"
    assert view["written"] is False
    assert "not written yet (away): repeat" in view["warnings"][0]
    with redis.Redis.from_url(world.redis_url) as client:
        assert client.exists(revoked_marker("acme", key_id))
    store.failure = None
    for shown in (away.keys.show(key_id), *away.keys.list()):
        assert shown["state"] == "revoked"
        assert "not yet written" in shown["warnings"][0]
    for change in (
        lambda: admin.keys.rotate(key_id),
        lambda: admin.keys.cancel_rotation(key_id),
        lambda: admin.keys.set(key_id, KeySettings(name="new")),
        lambda: admin.limits.set_key_limits(key_id, {"weight": 2}),
        lambda: admin.keys.holds(parse(rotated["key"])),
    ):
        with refused("not yet written: a dead key is not changed. Repeat `keys revoke`"):
            change()
    assert "written" not in away.keys.revoke(key_id)
    assert "warnings" not in away.keys.show(key_id)


def test_a_revocation_that_may_not_be_written_refuses_the_key_all_the_same(world):
    """The right to add versions is taken away: every row is dead, and says that it is unwritten."""
    admin = world.tenant()
    one, other = (admin.keys.issue("acme", name, ["generate"])["key_id"] for name in "ab")
    store = FlakyStore(world.open_store())
    store.failing = {"add_version": SecretPermissionError("PERMISSION_DENIED")}
    denied = world.admin(store)
    assert denied.keys.revoke(one)["written"] is False
    rows = denied.bulk.revoke([Revocation(other)])
    assert "refused from now on" in rows[0]["error"]
    assert "PERMISSION_DENIED" in rows[0]["error"]
    assert world.propagation().revoked("acme", [one, other]) == {one, other}


def test_many_keys_are_refused_at_once_while_the_store_cannot_be_read(world):
    """Whose they are is in the store alone; they are refused without it."""
    admin = world.tenant()
    ids = [admin.keys.issue("acme", name, ["generate"])["key_id"] for name in "ab"]
    store = FlakyStore(world.open_store())
    store.failure = SecretStoreUnavailableError("away")
    rows = world.admin(store).bulk.revoke([Revocation(one) for one in ids])
    assert all("repeat the command within 7 days" in row["error"] for row in rows)
    assert world.propagation().revoked("acme", ids) == set(ids)


def test_a_whole_key_in_the_place_of_an_id_is_told_so_and_not_repeated(world):
    """In a hurry a whole key is what is at hand; the refusal says where its id is."""
    admin = world.tenant()
    key = admin.keys.issue("acme", "ci", ["generate"])["key"]
    for revoke in (admin.keys.revoke, lambda text: admin.bulk.revoke([Revocation(text)])):
        with refused("its id is the third part") as caught:
            revoke(key)
        assert key.split("_")[3] not in str(caught.value)


def test_revoking_again_is_no_error_and_keeps_the_first_time(world):
    """Two admins under pressure may both press the button."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    admin.keys.revoke(issued["key_id"], "leaked")
    world.clock.now += 60
    assert admin.keys.revoke(issued["key_id"])["state"] == "revoked"
    record = admin._context.record(admin._context.directory(), issued["key_id"])
    assert record.revoked_at == world.clock() - 60
