"""Each admin operation does what its sentence says, refuses what it must, and hides secrets."""

from __future__ import annotations

import bcrypt
import pytest
import redis

from auth.admin import KeySettings
from auth.api_key import mint, parse
from auth.errors import AdminRefusedError
from auth.principal import Scope
from auth.propagation_keys import last_used, revoked_marker
from auth.secrets import SecretStoreUnavailableError
from auth.users import hash_password
from tests.support.auth_world import FlakyStore, World

DAY = 86_400


@pytest.fixture
def world(file_world: World, quick_passwords) -> World:
    return file_world


def refused(match: str):
    return pytest.raises(AdminRefusedError, match=match)


# -- tenants -----------------------------------------------------------------------------------


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


# -- keys --------------------------------------------------------------------------------------


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


# -- rotation ----------------------------------------------------------------------------------


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


# -- revocation --------------------------------------------------------------------------------


def test_revocation_marks_the_key_in_redis_before_it_writes_the_keyring(world):
    """The next request is refused even while the secret store is still slow or away."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    store = FlakyStore(world.open_store())
    away = world.admin(store)
    append = away._context.changes.apply

    def fail(*_):
        raise SecretStoreUnavailableError("away")

    away._context.changes.apply = fail
    with pytest.raises(SecretStoreUnavailableError):
        away.keys.revoke(issued["key_id"])
    away._context.changes.apply = append
    with redis.Redis.from_url(world.redis_url) as client:
        assert client.exists(revoked_marker("acme", issued["key_id"]))
    assert away.keys.revoke(issued["key_id"])["state"] == "revoked"


def test_revoking_again_is_no_error_and_keeps_the_first_time(world):
    """Two admins under pressure may both press the button."""
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    admin.keys.revoke(issued["key_id"], "leaked")
    world.clock.now += 60
    assert admin.keys.revoke(issued["key_id"])["state"] == "revoked"
    record = admin._context.record(admin._context.directory(), issued["key_id"])
    assert record.revoked_at == world.clock() - 60


# -- users -------------------------------------------------------------------------------------


def test_a_user_gets_a_key_that_only_the_web_apps_secret_holds(world):
    """The key works, forwards for that user, and is in no answer."""
    admin = world.tenant()
    view = admin.users.add("ada", "acme", ["admin"])
    user = admin._context.users.load()["ada"]
    key = admin._context.users.key_of("ada")
    principal = world.principal(world.loaded(), key)
    assert principal.key_id == user.key_id == view["key_id"]
    assert Scope.ADMIN in principal.scopes
    assert parse(key).secret not in str(view) + str(admin.users.list())


def test_a_generated_password_is_shown_once_and_must_be_changed(world):
    """A password that an admin chose is not repeated and, unless asked, need not be changed."""
    admin = world.tenant()
    generated = admin.users.add("ada", "acme")
    stored = admin._context.users.load()["ada"]
    assert bcrypt.checkpw(generated["password"].encode(), stored.password_hash.encode())
    assert stored.must_change_password
    chosen = admin.users.set_password("ada", "correct horse battery")
    assert "password" not in chosen
    assert chosen["must_change_password"] is False
    assert admin.users.set_password("ada", "correct horse staple", must_change=True)[
        "must_change_password"
    ]
    assert "password_hash" not in str(admin.users.list())


def test_passwords_are_hashed_at_bcrypts_cost_of_12():
    """A stolen users document is slow to guess from."""
    assert hash_password("correct horse battery").startswith("$2b$12$")


@pytest.mark.parametrize(
    ("password", "match"), [("short", "at least 10"), ("ä" * 37, "72 bytes"), ("a\0" * 9, "NUL")]
)
def test_a_password_that_bcrypt_would_not_take_whole_is_refused(world, password, match):
    """bcrypt reads 72 bytes; a longer password would be checked in part."""
    with refused(match):
        world.tenant().users.add("ada", "acme", password=password)


def test_rotating_a_users_key_changes_what_the_web_app_forwards(world):
    """The user notices nothing; cancelling gives the web app the old key back."""
    admin = world.tenant()
    key_id = admin.users.add("ada", "acme")["key_id"]
    users = admin._context.users
    before = users.key_of("ada")
    rotated = admin.keys.rotate(key_id)
    assert users.key_of("ada") == rotated["key"]
    admin.keys.cancel_rotation(key_id)
    assert users.key_of("ada") == before
    for _ in range(3):
        rotated = admin.keys.rotate(key_id, force=True)
    assert users.key_of("ada") == rotated["key"]
    assert len(users.kept_keys("ada")) == 2


def test_a_rotation_is_answered_though_the_web_apps_copy_could_not_be_changed(world):
    """The only sight of a new key is not lost to a second failure."""
    admin = world.tenant()
    key_id = admin.users.add("ada", "acme")["key_id"]

    def fail(*_):
        raise SecretStoreUnavailableError("away")

    admin._context.users.keep_key = fail
    rotated = admin.keys.rotate(key_id)
    assert world.accepted(world.loaded(), rotated["key"])
    assert "copy of the key" in rotated["warnings"][0]


def test_another_key_can_be_assigned_if_it_is_the_tenants_and_live(world):
    """What is forwarded is checked like what is sent."""
    admin = world.tenant()
    admin.tenants.add("other", "free")
    admin.users.add("ada", "acme")
    own = admin.keys.issue("acme", "mine", ["generate"])
    foreign = admin.keys.issue("other", "theirs", ["generate"])
    assert admin.users.assign_key("ada", own["key"])["key_id"] == own["key_id"]
    assert admin._context.users.key_of("ada") == own["key"]
    with refused("belongs to tenant other"):
        admin.users.assign_key("ada", foreign["key"])
    with refused("not a live key"):
        admin.users.assign_key("ada", mint("live", own["key_id"]).reveal())
    admin.keys.revoke(own["key_id"])
    with refused("not a live key"):
        admin.users.assign_key("ada", own["key"])
    with refused("shape"):
        admin.users.assign_key("ada", "hello")


def test_users_are_disabled_enabled_and_given_roles(world):
    """Each change is of that user alone, and refused for a user who is not there."""
    admin = world.tenant()
    admin.users.add("ada", "acme")
    admin.users.add("bob", "acme")
    assert admin.users.disable("ada")["state"] == "disabled"
    assert admin.users.set_roles("ada", ["admin"])["roles"] == ["admin"]
    assert admin.users.enable("ada")["state"] == "active"
    assert admin.users.show("bob")["roles"] == ["user"]
    with refused("no user eve"):
        admin.users.disable("eve")
    with refused("already"):
        admin.users.add("ada", "acme")
    with refused("no tenant"):
        admin.users.add("eve", "nobody")
    with refused("choose from"):
        admin.users.set_roles("ada", ["king"])


# -- rights ------------------------------------------------------------------------------------


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
