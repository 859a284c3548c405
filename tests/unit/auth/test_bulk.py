"""Many keys by one list: all rows are good or none is done, in few writes, and none is lost."""

from __future__ import annotations

from contextlib import suppress

import pytest

from auth import documents
from auth.admin_bulk import Revocation
from auth.admin_keys import KeyOrder, KeySettings
from auth.csv_rows import as_csv, orders, revocations
from auth.errors import AdminRefusedError
from auth.secrets import SecretStoreUnavailableError
from tests.support.auth_world import SHARDS, FlakyStore, World


@pytest.fixture
def world(file_world: World) -> World:
    return file_world


def order(name: str, **more) -> KeyOrder:
    return KeyOrder("acme", name, ("generate",), **more)


def test_two_hundred_keys_take_a_write_or_two_for_each_shard(world):
    """Every key works at once, each has its audit record, and the store was hardly written."""
    world.tenant()
    store = FlakyStore(world.open_store())
    rows = world.admin(store).bulk.issue([order(f"key {n}") for n in range(200)])
    keyring = world.loaded()
    assert all(world.accepted(keyring, row["key"]) for row in rows)
    assert [row["name"] for row in rows] == [f"key {n}" for n in range(200)]
    # Each change is a version of its shard and one of the audit.
    assert store.asked.count("add_version") <= 2 * SHARDS + 2
    world.admin().bulk.revoke([Revocation(row["key_id"], "leaked") for row in rows[:150]])
    keyring = world.loaded()
    accepted = [world.accepted(keyring, row["key"]) for row in rows]
    assert accepted == [False] * 150 + [True] * 50
    records = world.admin().audit_records()
    assert sum(one["action"] == "key.issue" for one in records) == 200
    assert [one["note"] for one in records if one["action"] == "key.revoke"] == ["leaked"] * 150
    assert world.admin().verify_audit()["records"] == 351


def test_one_bad_row_refuses_them_all_by_its_number(world):
    """Nothing is half done because of a typing error."""
    admin = world.tenant()
    with pytest.raises(AdminRefusedError, match=r"row 2: .*no plan gold.*nothing was changed"):
        admin.bulk.issue([order("a"), order("b", plan="gold")])
    assert admin.keys.list() == []
    key_id = admin.keys.issue("acme", "c", ["generate"])["key_id"]
    with pytest.raises(AdminRefusedError, match="row 2: there is no key"):
        admin.bulk.revoke([Revocation(key_id), Revocation("AAAAAAAAAAAA")])
    assert admin.keys.show(key_id)["state"] == "active"
    for rows in ([], [order("x")] * 10_001):
        with pytest.raises(AdminRefusedError, match="1 to 10000 rows"):
            admin.bulk.issue(rows)


def test_a_store_that_fails_on_the_way_loses_no_key_from_sight(world):
    """What was issued is in the answer with its key; what was not says why, without one."""
    admin = world.tenant()
    apply, calls = admin._context.changes.apply, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise SecretStoreUnavailableError("away")
        return apply(*arguments)

    admin._context.changes.apply = failing
    rows = admin.bulk.issue([order(f"key {n}") for n in range(40)])
    failed = [row for row in rows if "error" in row]
    assert failed
    assert all("key" not in row for row in failed)
    keyring = world.loaded()
    done = [row for row in rows if "error" not in row]
    assert {row["key_id"] for row in world.admin().keys.list()} == {row["key_id"] for row in done}
    assert all(world.accepted(keyring, row["key"]) for row in done)


def test_a_full_shard_is_refused_in_a_sentence(world, monkeypatch):
    """What does not fit into a secret is not written; what is there stays."""
    admin = world.tenant()
    monkeypatch.setattr(documents, "MAX_PAYLOAD_BYTES", 1500 + documents.KEPT_BYTES)
    rows = admin.bulk.issue([order(f"key {n}") for n in range(100)])
    rows += admin.bulk.issue([order(f"key {n}") for n in range(100)])
    failed = [row["error"] for row in rows if "error" in row]
    assert failed
    assert all("is full: a secret holds" in error for error in failed)
    monkeypatch.undo()
    assert admin.verify_audit()["whole"]


def test_a_full_shard_takes_every_revocation(world, monkeypatch):
    """What ends an access always fits: one by one or by a list, the longest reason given."""
    admin = world.tenant()
    monkeypatch.setattr(documents, "MAX_PAYLOAD_BYTES", 1500 + documents.KEPT_BYTES)
    rows = admin.bulk.issue([order(f"key {n}") for n in range(100)])
    keys = [row for row in rows if "error" not in row]
    assert 0 < len(keys) < 100
    for key in keys[:4]:
        with suppress(AdminRefusedError):  # there is no room for that
            admin.keys.set(key["key_id"], KeySettings(name="x" * 60))
    reason = "".join(chr(0x4E00 + n * 7) for n in range(500))  # hardly shrinks
    assert admin.keys.revoke(keys[0]["key_id"], reason)["state"] == "revoked"
    rest = admin.bulk.revoke([Revocation(one["key_id"], reason) for one in keys[1:]])
    assert [one.get("error") for one in rest] == [None] * len(rest)
    keyring = world.loaded()
    assert not any(world.accepted(keyring, key["key"]) for key in keys)
    assert admin.tenants.disable("acme")["state"] == "disabled"
    assert admin.verify_audit()["whole"]


def test_a_csv_is_read_by_its_first_line():
    """Columns in any order, lists separated by blanks or commas, a BOM from a spreadsheet."""
    text = "\ufeffname,tenant,scopes,expires,cidrs\nci,acme,generate admin,90d,10.0.0.0/8 ::1\n"
    [one] = orders(text, len)
    assert one == KeyOrder("acme", "ci", ("generate", "admin"), None, 3, ("10.0.0.0/8", "::1"))
    assert orders("tenant,name\nacme,ci\n", int)[0].scopes == (
        *("generate", "usage:read", "key:rotate"),
    )
    joined = 'tenant,name,scopes,cidrs\nacme,ci,"generate, usage:read","10.0.0.0/8,::1"\n'
    [one] = orders(joined, int)
    assert (one.scopes, one.allowed_cidrs) == (("generate", "usage:read"), ("10.0.0.0/8", "::1"))
    assert revocations("key_id,reason\nAAAAAAAAAAAA,leaked\n") == [
        Revocation("AAAAAAAAAAAA", "leaked")
    ]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "first line"),
        ("name\nci\n", "first line"),
        ("tenant,name,colour\nacme,ci,red\n", "first line"),
        ("tenant,name\nacme\n", "row 1 has not"),
        ("tenant,name\nacme,ci,x\n", "row 1 has not"),
        ("tenant,name\nacme,\n", "row 1: name is empty"),
    ],
)
def test_a_csv_that_is_not_understood_is_refused_by_row(text, match):
    """Nothing is guessed."""
    with pytest.raises(AdminRefusedError, match=match):
        orders(text, int)


def test_the_answer_is_a_csv_that_can_be_handed_on():
    """One line for each row, and a column for errors only when there are any."""
    rows = [{"key_id": "a", "tenant": "t", "name": "x,y", "key": "k", "plan": "free"}]
    assert as_csv(rows) == 'key_id,tenant,name,key\na,t,"x,y",k'
    assert as_csv([*rows, {"name": "z", "error": "away"}]).splitlines()[2] == ",,z,,away"


def test_a_name_is_text_to_a_spreadsheet():
    """What would be a formula is not one, in what is printed as CSV; a plain name is itself."""
    rows = [{"key_id": "a", "name": name} for name in ("=1+1", "+1", "-1", "@x", "ci", "a=b")]
    names = [line.partition(",")[2] for line in as_csv(rows).splitlines()[1:]]
    assert names == ["'=1+1", "'+1", "'-1", "'@x", "ci", "a=b"]
