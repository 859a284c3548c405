"""Least privilege: each identity can do its work and no more; the docs say how to set it up."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from auth.audit import AuditLog
from auth.changes import Changes
from auth.documents import Documents
from auth.errors import AdminRefusedError
from auth.names import Names
from auth.rights import (
    ACCESSOR,
    ROLES,
    Binding,
    Identity,
    bindings,
    gcloud_lines,
    web_users_bindings,
    web_users_gcloud_lines,
)
from auth.secrets import SecretPermissionError
from auth.users import UserStore
from auth.write_back import WriteBack
from tests.support.auth_world import PREFIX, World
from tests.support.identities import Policy, store_of
from tests.support.secret_manager import SecretManagerServer

DOCS = Path(__file__).parents[2] / "docs" / "secret-manager.md"
NAMES = Names(PREFIX)


class Project:
    """A project whose Secret Manager enforces the bindings, set up by its operator."""

    def __init__(self, server: SecretManagerServer, redis_url: str) -> None:
        self.policy = Policy(NAMES)
        server.authorize = self.policy
        self.stores = {one: store_of(server, one) for one in Identity}
        self.world = World(lambda: self.stores[Identity.OPERATOR], redis_url, shards=2)
        self.operator = self.world.tenant()
        self.user_key_id = self.operator.users.add("ada", "acme")["key_id"]
        self.api = self.world.admin(self.stores[Identity.API], actor="key:AAAAAAAAAAAA")
        self.web = UserStore(self.stores[Identity.WEB], NAMES)


@pytest.fixture
def project(secret_manager: SecretManagerServer, redis_url: str, quick_passwords) -> Project:
    return Project(secret_manager, redis_url)


def work_of_the_api(project: Project) -> None:
    """Serve, administer over HTTP, move secrets to a new pepper."""
    api, store, world = project.api, project.stores[Identity.API], project.world
    issued = api.keys.issue("acme", "ci", ["generate"])
    project.operator.peppers.rotate()
    documents, due = Documents(store), []
    audit = AuditLog(store, documents, NAMES)
    changes = Changes(documents, audit, world.propagation(), NAMES, clock=world.clock)
    keyring = world.loaded(store)
    keyring._moves = WriteBack(changes, NAMES, later=lambda _, run: due.append(run))
    assert world.accepted(keyring, issued["key"])
    due.pop()()
    api.keys.rotate(issued["key_id"])
    api.keys.revoke(issued["key_id"], "leaked")
    api.tenants.add("other", "free")
    api.keys.list()
    assert api.audit_records()
    assert api.verify_audit()["not_compared"] == [NAMES.users]


def work_of_the_web_app(project: Project) -> None:
    """Read users, forward their keys, keep what a rotation gave out."""
    assert "ada" in project.web.load()
    rotated = project.api.keys.rotate(project.user_key_id, web_copy=True)["key"]
    project.web.keep_key("ada", rotated)
    assert project.web.key_of("ada") == rotated


def test_each_identity_does_its_work_with_its_bindings_and_uses_them_all(project):
    """What is bound is enough, and nothing of it could be left out."""
    work_of_the_api(project)
    work_of_the_web_app(project)
    bound = {
        (one, right.permission)
        for one in bindings(NAMES)
        if one.identity is not Identity.OPERATOR
        for right in ROLES[one.role]
    }
    assert {(one, used) for one, used in project.policy.used if one in dict(bound)} == bound


def test_the_api_reads_neither_users_nor_the_keys_that_the_web_app_forwards(project):
    """A stolen identity of the API gives away no key in clear."""
    store = project.stores[Identity.API]
    for name in (NAMES.users, NAMES.web_key("ada")):
        with pytest.raises(SecretPermissionError):
            store.access(name, "latest")
        with pytest.raises(SecretPermissionError):
            store.add_version(name, b"x")
    with pytest.raises(SecretPermissionError):
        project.api.users.list()


def test_an_api_that_was_given_the_web_users_keeps_them_and_reads_no_key_in_clear(project):
    """What the option binds is enough for all of it, nothing of it could be left out, and the check
    knows it."""
    project.policy.web_users = True
    users = project.api.users
    grace = users.add("grace", "acme")
    users.change_password(
        "grace", key_id=grace["key_id"], current=grace["password"], new="grace's own one"
    )
    users.set_roles("grace", ["user", "admin"])
    users.disable("grace")
    users.assign_key("grace", project.operator.keys.issue("acme", "other", ["generate"])["key"])
    assert "grace" in {user["user"] for user in users.list()}
    rotated = project.api.keys.rotate(project.user_key_id)
    assert project.web.key_of("ada") == rotated["key"]
    with pytest.raises(AdminRefusedError, match="copy cannot be changed from here"):
        project.api.keys.cancel_rotation(
            project.user_key_id
        )  # which key was before, it cannot read
    with pytest.raises(SecretPermissionError):
        project.stores[Identity.API].access(NAMES.web_key("ada"), "latest")
    bound = {
        (one, right.permission) for one in web_users_bindings(NAMES) for right in ROLES[one.role]
    }
    assert {pair for pair in project.policy.used if pair in bound} == bound
    rows = project.api.check_secrets(Identity.API, web_users=True)
    assert [row for row in rows if row["missing"] or row["beyond"]] == []


def test_no_key_is_issued_for_a_user_that_cannot_be_kept(project):
    """Where the API may not write web users, a new user is refused before anything is made."""
    keys = project.operator.keys.list()
    with pytest.raises(SecretPermissionError):
        project.api.users.add("grace", "acme")
    project.policy.web_users = True
    project.policy.taken = next(
        (one, "secretmanager.versions.add")
        for one in web_users_bindings(NAMES)
        if one.begins == (NAMES.web_key(""),)
    )
    with pytest.raises(SecretPermissionError):
        project.api.users.add("grace", "acme")
    assert project.operator.keys.list() == keys


def test_the_web_app_reads_no_keyring_and_writes_no_users(project):
    """A stolen identity of the web app issues no key and makes no user an admin."""
    store = project.stores[Identity.WEB]
    for name in (NAMES.shard(0), NAMES.directory, NAMES.pepper("p1"), NAMES.audit):
        with pytest.raises(SecretPermissionError):
            store.access(name, 1)
    for name in (NAMES.shard(0), NAMES.users, NAMES.pepper("p1")):
        with pytest.raises(SecretPermissionError):
            store.add_version(name, b"x")


def test_a_web_users_key_is_not_rotated_where_its_copy_cannot_follow(project):
    """The refusal comes before anything changes, and names both ways to do it."""
    with pytest.raises(AdminRefusedError, match=r"web app's pages.*auth keys rotate"):
        project.api.keys.rotate(project.user_key_id)
    assert project.operator.keys.show(project.user_key_id)["rotation"] is None
    rotated = project.operator.keys.rotate(project.user_key_id)
    assert project.web.key_of("ada") == rotated["key"]
    assert rotated["web_app_sees_within_seconds"] == 300


@pytest.mark.parametrize("identity", list(Identity))
def test_the_check_finds_nothing_where_all_is_as_it_should_be(project, identity):
    """Neither missing nor beyond; and it leaves no version behind."""
    store = project.stores[Identity.OPERATOR]
    before = {name: store.list_versions(name) for name in store.list_secrets(PREFIX)}
    rows = project.world.admin(project.stores[identity]).check_secrets(identity)
    assert [row for row in rows if row["missing"] or row["beyond"]] == []
    assert {name: store.list_versions(name) for name in store.list_secrets(PREFIX)} == before


@pytest.mark.parametrize(
    ("binding", "permission"),
    [
        pytest.param(one, right.permission, id=f"{one.identity}-{right.permission}")
        for one in bindings(NAMES)
        if one.identity is not Identity.OPERATOR
        for right in sorted(ROLES[one.role])
    ],
)
def test_a_permission_that_is_missing_is_named(project, binding, permission):
    """Whatever one permission is taken away, the check says which, and of which secret."""
    project.policy.taken = (binding, permission)
    admin = project.world.admin(project.stores[binding.identity])
    missing = {
        row["secret"]: row["missing"]
        for row in admin.check_secrets(binding.identity)
        if row["missing"]
    }
    word = next(right for right in ROLES[binding.role] if right.permission == permission).value
    assert missing
    assert all(name.startswith(binding.begins) for name in missing)
    assert all(any(one.startswith(word) for one in found) for found in missing.values())


def test_a_right_too_many_is_shown(project):
    """An API that was given the whole project's secrets to read is told so."""
    project.policy.given = Binding(Identity.API, ACCESSOR, (PREFIX,), "too much")
    rows = {row["secret"]: row for row in project.api.check_secrets(Identity.API)}
    assert rows[NAMES.users]["beyond"] == ["read versions"]
    assert rows[NAMES.shard(0)]["beyond"] == []


def test_the_documented_commands_are_those_of_the_table():
    """docs/secret-manager.md shows what `secrets grants` prints, line by line."""
    names = Names("quillgate")
    blocks = re.findall(r"```sh cloud\n((?:NUMBER=|# api: ).*?)```", DOCS.read_text(), re.DOTALL)
    lines = [block.splitlines() for block in blocks]
    assert lines == [gcloud_lines(names), web_users_gcloud_lines(names)]
    for line in [*lines[0], *lines[1]]:
        words = shlex.split(line, comments=True)
        assert not words or words[0] == "gcloud" or words[0].startswith("NUMBER=")


def test_the_deployment_gives_the_services_these_very_rights():
    """docs/deploy.md binds the API and the web app as the table says, the option included that a
    first login needs; what it binds besides has nothing to do with secrets."""
    text = (DOCS.parent / "deploy.md").read_text()
    names, services = Names("quillgate"), ("quillgate-api@", "quillgate-web@")
    lines = [*gcloud_lines(names), *web_users_gcloud_lines(names)]
    bound = [line for line in lines if any(service in line for service in services)]
    assert bound
    assert all(line in text for line in bound)
    rest = text
    for line in bound:
        rest = rest.replace(line, "")
    others = re.findall(r"add-iam-policy-binding \"\$PROJECT\".*?--role[ =](\S+)", rest, re.DOTALL)
    assert sorted(others) == [
        *("roles/logging.logWriter", "roles/monitoring.metricWriter", "roles/run.builder")
    ]
