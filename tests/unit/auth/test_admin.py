"""Each admin operation does what its sentence says, refuses what it must, and hides secrets."""

from __future__ import annotations

import pytest
import redis

from auth.admin import KeySettings
from auth.api_key import parse
from auth.errors import AdminRefusedError
from auth.principal import Scope
from auth.propagation import Propagation
from auth.propagation_keys import last_used, uses_since
from auth.secrets import SecretStoreUnavailableError
from tests.support.auth_world import PREFIX, FlakyStore, World

DAY = 86_400


@pytest.fixture
def world(file_world: World, quick_passwords) -> World:
    return file_world


def refused(match: str):
    return pytest.raises(AdminRefusedError, match=match)


# -- tenants ---------------------------------------------------------------------------------


def test_the_first_tenant_sets_up_the_store(world):
    """Before it everything is refused with the way out; afterwards everything is there."""
    admin = world.admin()
    for operation in (admin.tenants.list, admin.keys.list, admin.users.list, admin.audit_records):
        with refused("tenants add"):
            operation()
    assert admin.tenants.add("acme", "free")["state"] == "active"
    assert [one["tenant"] for one in world.admin().tenants.list()] == ["acme"]
    assert all(not one["missing"] for one in admin.check_secrets())


def test_setting_up_twice_changes_nothing(world):
    """A second set-up, also by another process, keeps every key working."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    world.admin().set_up()
    assert world.accepted(world.loaded(), issued["key"])


@pytest.mark.parametrize("name", ["", "Acme", "a/b", "-a", "a" * 33, "ä"])
def test_a_name_that_could_not_be_a_secrets_name_is_refused(world, name):
    """Names of tenants become part of names elsewhere."""
    with refused("cannot name a tenant"):
        world.admin().tenants.add(name, "free")


def test_an_unknown_plan_or_tenant_or_a_second_of_a_name_is_refused(world):
    """Nothing is guessed and nothing is overwritten."""
    admin = world.tenant()
    with refused("choose one of free, standard, partner"):
        admin.tenants.add("other", "gold")
    with refused("already"):
        admin.tenants.add("acme", "free")
    with refused("no tenant other"):
        admin.tenants.set_plan("other", "free")
    with refused("no plan gold"):
        admin.tenants.set_plan("acme", "gold")


def test_a_tenants_plan_is_what_its_keys_have_unless_they_have_their_own(world):
    """Changing the tenant's plan moves its keys, except those with a plan of their own."""
    admin = world.tenant()
    shared = admin.keys.issue("acme", "a", ["generate"])
    own = admin.keys.issue("acme", "b", ["generate"], plan="partner")
    admin.tenants.set_plan("acme", "free")
    keyring = world.loaded()
    assert world.principal(keyring, shared["key"]).plan.name == "free"
    assert world.principal(keyring, own["key"]).plan.name == "partner"


# -- keys ------------------------------------------------------------------------------------


def test_the_whole_key_is_in_the_answer_of_issue_and_nowhere_else(world):
    """Neither a list, nor a view, nor any stored byte holds a key once it was shown."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    secret = parse(issued["key"]).secret
    assert secret not in str(admin.keys.list()) + str(admin.keys.show(issued["key_id"]))
    store = world.open_store()
    for name in store.list_secrets(""):
        for version in store.list_versions(name):
            assert secret.encode() not in store.access(name, version.number).data


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"tenant": "nobody"}, "no tenant"),
        ({"name": ""}, "1 to 64"),
        ({"name": "a\x00"}, "control"),
        ({"scopes": []}, "at least one scope"),
        ({"scopes": ["root"]}, "choose from generate"),
        ({"plan": "gold"}, "no plan"),
        ({"expires_at": 1}, "future"),
        ({"expires_at": 600_000_000_000}, "hundred years"),
        ({"allowed_cidrs": ["10.0.0.1/8"]}, "host bits"),
        ({"allowed_cidrs": ["home"]}, "not a network"),
        ({"allowed_cidrs": [f"10.0.0.{n}" for n in range(51)]}, "at most 50"),
    ],
)
def test_a_key_that_could_not_work_is_not_issued(world, changes, match):
    """Every setting is checked before anything is written."""
    admin = world.tenant()
    wanted = {"tenant": "acme", "name": "ci", "scopes": ["generate"]} | changes
    with refused(match):
        admin.keys.issue(**wanted)
    assert admin.keys.list() == []


def test_what_a_key_may_do_can_be_changed(world):
    """Each setting changes alone; `never` and `the tenant's plan` can be said."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"], plan="partner")
    key_id, later = issued["key_id"], int(world.clock()) + DAY
    admin.keys.set(key_id, KeySettings(name="build", expires_at=later))
    admin.keys.set(key_id, KeySettings(scopes=frozenset({Scope.USAGE_READ})))
    view = admin.keys.set(key_id, KeySettings(allowed_cidrs=("::1",), tenants_plan=True))
    assert (view["name"], view["scopes"], view["plan"]) == ("build", ["usage:read"], "standard")
    assert (view["expires_at"], view["allowed_cidrs"]) == (later, ["::1/128"])
    assert admin.keys.set(key_id, KeySettings(never_expires=True))["expires_at"] is None
    admin.keys.revoke(key_id)
    with refused("is revoked"):
        admin.keys.set(key_id, KeySettings(name="again"))


def test_an_unknown_key_is_refused_by_every_operation(world):
    """A typing error in an id changes nothing."""
    admin = world.tenant()
    for operation in (
        *(admin.keys.show, admin.keys.rotate, admin.keys.cancel_rotation, admin.keys.revoke),
        lambda key_id: admin.keys.set(key_id, KeySettings(name="x")),
    ):
        for key_id in ("nobody", "ä" * 12):
            with refused("no key"):
                operation(key_id)


def test_a_list_can_be_of_one_tenant_or_of_keys_unused_for_days(world):
    """Last use comes from the limiter's own record; a key never used counts from its issue."""
    admin = world.tenant()
    admin.tenants.add("other", "free")
    used, unused = (admin.keys.issue("acme", name, ["generate"]) for name in ("a", "b"))
    foreign = admin.keys.issue("other", "c", ["generate"])
    world.clock.now += 10 * DAY
    with redis.Redis.from_url(world.redis_url) as client:
        seen = {"at": int(world.clock()), "address": "192.0.2.7"}
        client.hset(last_used("acme", used["key_id"]), mapping=seen)
    acme = admin.keys.list(tenant="acme")
    assert [one["key_id"] for one in acme] == [used["key_id"], unused["key_id"]] or [
        one["key_id"] for one in acme
    ] == [unused["key_id"], used["key_id"]]
    view = admin.keys.show(used["key_id"])
    assert (view["last_used_at"], view["last_used_from"]) == (seen["at"], "192.0.2.7")
    idle = {one["key_id"] for one in admin.keys.list(unused_days=10)}
    assert idle == {unused["key_id"], foreign["key_id"]}
    assert admin.keys.list(unused_days=11) == []


def test_a_key_is_called_unused_only_as_far_back_as_redis_remembers(world):
    """An admin revokes by this list: a Redis that was emptied must not put keys in use on it."""
    admin = world.tenant()
    key_id = admin.keys.issue("acme", "ci", ["generate"])["key_id"]
    world.clock.now += 30 * DAY
    unused = [[one["key_id"] for one in admin.keys.list(unused_days=30)]]
    with redis.Redis.from_url(world.redis_url) as client:
        client.flushdb()
        with refused("was emptied just now"):
            admin.keys.list(unused_days=30)
        admin.tenants.set_plan("acme", "free")  # Redis is told again, and notes uses from here on
        assert abs(world.propagation().uses_since(PREFIX) - client.time()[0]) < 60
        client.set(uses_since(PREFIX), int(world.clock()) - 5 * DAY)
    unused += [[one["key_id"] for one in admin.keys.list(unused_days=days)] for days in (5, 6)]
    assert unused == [[key_id], [key_id], []]


def test_without_redis_no_key_is_called_unused(world):
    """Only Redis knows; a plain list says that it is without last uses."""
    admin = world.tenant()
    admin.keys.issue("acme", "ci", ["generate"])
    world.clock.now += 30 * DAY
    away = world.admin(propagation=Propagation("unix:///nonexistent", monotonic=world.clock))
    with refused("Redis does not answer"):
        away.keys.list(unused_days=1)
    (listed,) = away.keys.list()
    assert "last uses" in listed["warnings"][0]
    assert "warnings" not in admin.keys.list()[0]


def test_redis_of_an_older_release_remembers_its_uses(world):
    """Where there is a pointer and no note, nothing was emptied: the list is as it was."""
    world.tenant()
    propagation = world.propagation()
    with redis.Redis.from_url(world.redis_url) as client:
        client.delete(uses_since(PREFIX))
        assert propagation.uses_since(PREFIX) == 0
        propagation.publish(PREFIX, {"a": 1})
        assert propagation.uses_since(PREFIX) == 0
        assert client.ttl(uses_since(PREFIX)) > 400 * DAY


def test_who_revokes_a_key_is_told_when_it_was_last_used(world):
    """'Never' would be a lie at the very moment at which it matters."""
    admin = world.tenant()
    key_id = admin.keys.issue("acme", "ci", ["generate"])["key_id"]
    with redis.Redis.from_url(world.redis_url) as client:
        client.hset(last_used("acme", key_id), mapping={"at": 7, "address": "192.0.2.7"})
    for view in (
        admin.limits.set_key_limits(key_id, {"weight": 2}),
        admin.keys.rotate(key_id),
        admin.keys.revoke(key_id),
    ):
        assert (view["last_used_at"], view["last_used_from"]) == (7, "192.0.2.7")


@pytest.mark.parametrize(("days", "warned"), [(20, None), (14, 14), (4, 14), (3, 3), (1, 1)])
def test_an_expiry_is_warned_of_14_3_and_1_days_before(world, days, warned):
    """The nearest of the three warnings shows in the list."""
    admin = world.tenant()
    issued = admin.keys.issue(
        "acme", "ci", ["generate"], expires_at=int(world.clock()) + days * DAY
    )
    assert issued["expires_in_days"] == warned
    world.clock.now += days * DAY
    assert admin.keys.show(issued["key_id"])["state"] == "expired"


# -- rights ----------------------------------------------------------------------------------


def test_a_missing_right_is_named_with_its_secret(world):
    """`secrets check` says what to grant, and what it tried leaves nothing behind."""
    admin = world.tenant()
    store = world.open_store()
    before = {name: store.list_versions(name) for name in store.list_secrets("")}
    assert all(not one["missing"] for one in admin.check_secrets())
    store.delete_secret(world.names.users)
    lacking = [one for one in admin.check_secrets() if one["missing"]]
    assert [one["secret"] for one in lacking] == [world.names.users]
    assert any("read versions" in one for one in lacking[0]["missing"])
    after = {name: store.list_versions(name) for name in store.list_secrets("")}
    assert after == {name: found for name, found in before.items() if name in after}


def test_a_check_of_rights_ends_at_a_store_that_is_away_or_empty(world):
    """One sentence and one wait, not one for each of forty secrets."""
    store = FlakyStore(world.open_store())
    admin = world.admin(store)
    with pytest.raises(AdminRefusedError, match="nothing is set up here yet"):
        admin.check_secrets()
    world.tenant()
    store.failure = SecretStoreUnavailableError("away")
    store.asked.clear()
    with pytest.raises(SecretStoreUnavailableError):
        admin.check_secrets()
    assert len(store.asked) == 1
