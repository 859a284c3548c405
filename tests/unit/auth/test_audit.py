"""The audit chain holds every change once, in order, and shows any that was touched."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from auth import audit as module
from auth.audit import AuditLog, BrokenChainError, head_from_body, head_to_body
from auth.documents import Documents
from auth.names import Names
from auth.secrets import SecretStoreUnavailableError
from tests.support.auth_world import FlakyStore, World


def log_of(world: World) -> AuditLog:
    store = world.open_store()
    return AuditLog(store, Documents(store), world.names)


def entry(sequence: int, document: str = "doc") -> dict:
    return {"document": document, "sequence": sequence, "action": "test", "padding": "x" * 200}


def tamper(world: World, change) -> None:
    """Rewrite the head of the chain as somebody with access to the store could."""

    def rewrite(document):
        head = head_from_body(document.body)
        return replace(document, body=head_to_body(change(head)))

    Documents(world.open_store()).update(world.names.audit, rewrite)


def test_every_change_leaves_a_record_of_who_what_when_where(file_world):
    """Before and after are there; the actor, the address and the reason too."""
    world = file_world
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    admin.keys.revoke(issued["key_id"], "leaked")
    records = admin.audit_records()
    assert [one["action"] for one in records] == ["tenant.add", "key.issue", "key.revoke"]
    last = records[-1]
    assert (last["actor"], last["address"], last["subject"], last["note"]) == (
        *("cli:ada", "192.0.2.1"),
        *(issued["key_id"], "leaked"),
    )
    assert (last["before"]["state"], last["after"]["state"]) == ("active", "revoked")
    assert admin.verify_audit()["records"] == 3


def test_no_secret_digest_or_password_is_ever_in_the_chain(file_world):
    """What can authenticate, or help to guess what can, is not recorded."""
    world = file_world
    admin = world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    rotated = admin.keys.rotate(issued["key_id"])
    user = admin.users.add("eve", "acme")
    text = json.dumps(admin.audit_records())
    for whole in (
        issued["key"],
        rotated["key"],
        world.open_store().access(world.names.web_key("eve"), "latest").data.decode(),
    ):
        assert whole.split("_")[3] not in text
    assert user["password"] not in text
    assert "$2b$" not in text
    ring = admin._context.records(admin._context.directory())
    assert not any(secret.digest in text for record in ring for secret in record.secrets)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda head: replace(head, records=head.records[1:]), "record 1 is missing"),
        (lambda head: replace(head, records=head.records[:1] + head.records[2:]), "record 2"),
        (lambda head: replace(head, records=head.records[:-1]), "after record 3"),
        (lambda head: replace(head, records=tuple(reversed(head.records))), "record 1"),
        (
            lambda head: replace(
                head,
                records=(head.records[0], {**head.records[1], "actor": "x"}, *head.records[2:]),
            ),
            "record 2 was changed",
        ),
    ],
)
def test_a_chain_that_was_touched_is_broken_at_a_named_record(file_world, change, names):
    """Dropping, changing and reordering show, and so does cutting off the end."""
    world = file_world
    log_of(world).create()
    log_of(world).append([entry(number) for number in range(1, 5)])
    assert log_of(world).verify()[0] == 4
    tamper(world, change)
    with pytest.raises(BrokenChainError, match=names):
        log_of(world).verify()


def test_a_record_is_appended_once_however_often_it_is_tried(file_world):
    """A writer that is not sure tries again; the chain holds the record once."""
    log_of(file_world).create()
    for _ in range(3):
        log_of(file_world).append([entry(1), entry(2)])
    log_of(file_world).append([entry(1, "other")])
    assert [one["sequence"] for one in log_of(file_world).records()] == [1, 2, 1]


def test_full_segments_are_archived_and_the_chain_goes_on(file_world, monkeypatch):
    """However long the chain gets it is whole, and its head stays small."""
    monkeypatch.setattr(module, "FULL_BYTES", 500)
    log = log_of(file_world)
    log.create()
    for number in range(1, 31):
        log.append([entry(number)])
    store = file_world.open_store()
    assert len(store.list_versions(Names("qgtest").audit_archive)) > 1
    assert [one["number"] for one in log.records()] == list(range(1, 31))
    assert log.verify()[0] == 30
    assert len(store.access(file_world.names.audit, "current").data) < 2000


def test_a_writer_that_dies_before_its_record_is_in_the_chain_loses_nothing(file_world):
    """The record is in the changed document, and the next change there brings it along."""
    world = file_world
    admin = world.tenant()
    admin.tenants.add("other", "free")
    store = FlakyStore(world.open_store())
    dying = world.admin(store)
    audit = dying._context.audit
    append, calls = audit.append, []

    def append_once(records):
        calls.append(1)
        if len(calls) > 1:
            raise SecretStoreUnavailableError("power cut")
        append(records)

    audit.append = append_once
    answer = dying.tenants.disable("other")
    assert "audit" in answer["warnings"][0]
    assert len(admin.audit_records()) == 2
    admin.tenants.enable("other")
    assert [one["action"] for one in admin.audit_records()][2:] == [
        "tenant.disable",
        "tenant.enable",
    ]
    assert admin.verify_audit()["whole"]


def test_fifty_admins_at_once_leave_fifty_changes_and_a_whole_chain(world):
    """Nothing is lost between writers of the same and of different documents, in either store."""
    world.tenant()

    def issue(number: int) -> str:
        admin = world.admin(actor=f"cli:{number}")
        return admin.keys.issue("acme", f"key {number}", ["generate"])["key"]

    with ThreadPoolExecutor(50) as pool:
        keys = list(pool.map(issue, range(50)))
    keyring = world.loaded()
    assert all(world.accepted(keyring, key) for key in keys)
    records = world.admin().audit_records()
    assert {one["actor"] for one in records[1:]} == {f"cli:{number}" for number in range(50)}
    assert world.admin().verify_audit()["records"] == 51
