"""Web users by an admin: their passwords, roles and keys, each of them one person's."""

from __future__ import annotations

import bcrypt
import pytest

from auth.api_key import mint, parse
from auth.errors import AdminRefusedError
from auth.principal import Scope
from auth.secrets import SecretStoreUnavailableError
from auth.users import hash_password
from tests.support.auth_world import FlakyStore, World


@pytest.fixture
def world(file_world: World, quick_passwords) -> World:
    return file_world


def refused(match: str):
    return pytest.raises(AdminRefusedError, match=match)


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
    assert admin.users.set_roles("ada", ["admin"])["roles"] == ["admin", "user"]
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


def scopes_of(world, keyring, key) -> set[Scope]:
    return set(world.principal(keyring, key).scopes)


def test_a_role_is_felt_by_the_users_key_at_its_next_request(world):
    """An admin's key may administer and is told so by the chain; when the role goes, so does the
    scope, on an instance that ran all along."""
    admin = world.tenant()
    key_id = admin.users.add("ada", "acme")["key_id"]
    key, keyring = admin._context.users.key_of("ada"), world.loaded()
    user = {Scope.GENERATE, Scope.USAGE_READ, Scope.KEY_ROTATE}
    pointer = world.propagation().current_version

    def now_held():
        keyring.observe(world.prefix, pointer(world.prefix))  # as the limiter's answer has it do
        return scopes_of(world, keyring, key)

    assert now_held() == user
    assert admin.users.set_roles("ada", ["user", "admin"])["roles"] == ["admin", "user"]
    assert now_held() == user | {Scope.ADMIN}
    admin.users.set_roles("ada", ["user"])
    assert now_held() == user
    changes = [one for one in admin.audit_records() if one["action"] == "key.set"]
    assert [(one["subject"], "admin" in one["after"]["scopes"]) for one in changes] == [
        (key_id, True),
        (key_id, False),
    ]


def test_a_role_changes_no_key_that_is_not_one_persons_own(world):
    """A shared key, a revoked one: as they were; and a role that is there already costs nothing."""
    admin = world.tenant()
    shared = admin.keys.issue("acme", "team", ["generate"])
    for name in ("ada", "bob"):
        admin.users.add(name, "acme")
        admin.users.assign_key(name, shared["key"])
    admin.users.set_roles("ada", ["admin"])
    assert admin.keys.show(shared["key_id"])["scopes"] == ["generate"]
    own = admin.users.add("eve", "acme")["key_id"]
    admin.users.set_roles("eve", ["user"])
    admin.keys.revoke(own)
    admin.users.set_roles("eve", ["admin"])
    assert "admin" not in admin.keys.show(own)["scopes"]
    assert "key.set" not in {one["action"] for one in admin.audit_records()}


@pytest.mark.parametrize(("before", "after"), [("user", "admin"), ("admin", "user")])
def test_a_role_that_could_not_be_changed_whole_leaves_less_of_it(world, before, after):
    """Whatever fails on the way, no key holds the scope of a role that its user has not."""
    admin = world.tenant()
    key_id = admin.users.add("ada", "acme", [before])["key_id"]
    users = world.names.users

    class Half(FlakyStore):
        """Takes a new version of one document, not of another."""

        def add_version(self, name, data):
            if (name == users) is (before == "admin"):
                raise SecretStoreUnavailableError("away")
            return self.__getattr__("add_version")(name, data)

    with pytest.raises(SecretStoreUnavailableError):
        world.admin(Half(world.open_store())).users.set_roles("ada", [after])
    assert "admin" not in admin.keys.show(key_id)["scopes"]
    assert admin.users.set_roles("ada", [after])["roles"] == sorted({after, "user"})
    assert ("admin" in admin.keys.show(key_id)["scopes"]) is (after == "admin")
