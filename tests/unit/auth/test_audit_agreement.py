"""The audit chain is held against the data: what was changed past the tools is named."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from auth.audit import BrokenChainError
from auth.documents import Documents
from auth.keyring import shard_of
from auth.secrets import SecretStoreUnavailableError
from tests.support.auth_world import SHARDS, World


def overwrite(world: World, name: str, change, *, counted: bool = False) -> None:
    """Change a document as somebody with access to the store could."""

    def changed(document):
        body = copy.deepcopy(dict(document.body))
        change(body)
        return replace(document, body=body, sequence=document.sequence + counted)

    Documents(world.open_store()).update(name, changed)


@pytest.mark.parametrize("counted", [False, True])
def test_a_key_changed_past_the_tools_is_named_with_the_last_record(file_world, counted):
    """Extending an expiry by hand shows, whether or not the change was counted."""
    world, admin = file_world, file_world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    name = world.names.shard(shard_of(issued["key_id"], SHARDS))

    def extend(body):
        body["keys"][issued["key_id"]]["expires_at"] = 2_000_000_000

    overwrite(world, name, extend, counted=counted)
    words = "has had 2 changes" if counted else f"record 2 .key.issue {issued['key_id']}. left"
    with pytest.raises(BrokenChainError, match=f"{name} .*{words}"):
        admin.verify_audit()


def test_a_key_put_into_a_shard_that_had_no_change_is_seen(file_world):
    """Documents without a record hold what the set-up wrote: nothing."""
    world, admin = file_world, file_world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    used = shard_of(issued["key_id"], SHARDS)
    record = Documents(world.open_store()).read(world.names.shard(used)).body["keys"]
    other = world.names.shard((used + 1) % SHARDS)
    overwrite(world, other, lambda body: body["keys"].update(record))
    with pytest.raises(BrokenChainError, match=f"{other} was filled"):
        admin.verify_audit()


def test_a_document_set_back_to_an_older_version_is_seen(file_world):
    """A restored backup would bring a revoked key back; the chain remembers."""
    world, admin = file_world, file_world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    name = world.names.shard(shard_of(issued["key_id"], SHARDS))
    backup = Documents(world.open_store()).read(name)
    admin.keys.revoke(issued["key_id"])
    Documents(world.open_store()).update(name, lambda _: backup)
    with pytest.raises(BrokenChainError, match="has had 1 changes, the chain knows of 2"):
        admin.verify_audit()


def test_a_change_whose_record_still_waits_agrees(file_world):
    """The chain may be a step behind the data; that is no disagreement."""
    world, admin = file_world, file_world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    late = world.admin()
    append, calls = late._context.audit.append, []

    def append_once(records):
        calls.append(1)
        if len(calls) > 1:
            raise SecretStoreUnavailableError("away")
        append(records)

    late._context.audit.append = append_once
    assert "audit" in late.keys.revoke(issued["key_id"])["warnings"][0]
    assert admin.verify_audit() == admin.verify_audit()
    assert admin.verify_audit()["records"] == 2
