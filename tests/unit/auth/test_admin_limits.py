"""A key's own limits and a tenant's caps: set, kept, refused and taken away."""

from __future__ import annotations

import json

import pytest

from auth.__main__ import main
from auth.errors import AdminRefusedError, MalformedKeyringError
from auth.keyring import from_body, to_body
from auth.plans import Caps
from tests.support.auth_world import World


def test_a_key_has_limits_of_its_own(file_world: World):
    """They stand in the place of the plan's from the next request on, and fall back when ended."""
    admin = file_world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    keyring = file_world.loaded()
    change = {"chars_per_day": 5, "weight": 2}
    assert admin.limits.set_key_limits(issued["key_id"], change)["limits"] == change
    keyring.load()
    plan = file_world.principal(keyring, issued["key"]).plan
    assert (plan.name, plan.chars_per_day, plan.weight) == ("standard", 5, 2)
    assert plan.chars_per_month == 20_000_000
    admin.limits.set_key_limits(issued["key_id"], {"chars_per_day": None})
    assert admin.keys.show(issued["key_id"])["limits"] == {"weight": 2}
    keyring.load()
    assert file_world.principal(keyring, issued["key"]).plan.chars_per_day == 1_000_000


def test_a_tenant_has_caps(file_world: World):
    """Every key of the tenant carries them, and no key of another."""
    admin = file_world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    keyring = file_world.loaded()
    assert file_world.principal(keyring, issued["key"]).caps is None
    admin.limits.set_caps("acme", {"chars_per_month": 9, "concurrency": 3})
    assert admin.limits.set_caps("acme", {"concurrency": None})["caps"] == {"chars_per_month": 9}
    keyring.load()
    assert file_world.principal(keyring, issued["key"]).caps == Caps(chars_per_month=9)
    assert admin.limits.set_caps("acme", {"chars_per_month": None})["caps"] == {}
    keyring.load()
    assert file_world.principal(keyring, issued["key"]).caps is None
    actions = [record["action"] for record in admin.audit_records()]
    assert actions[-3:] == ["tenant.set-caps"] * 3


@pytest.mark.parametrize(
    "change", [{}, {"chars": 1}, {"chars": None}, {"chars_per_day": 0}, {"concurrency": 10**13}]
)
def test_what_is_no_limit_is_refused(file_world: World, change):
    """An unknown name, nought or an immense number changes nothing: it never means unlimited."""
    admin = file_world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    for attempt in (
        lambda: admin.limits.set_caps("acme", change),
        lambda: admin.limits.set_key_limits(issued["key_id"], change),
    ):
        with pytest.raises(AdminRefusedError):
            attempt()
    assert admin.tenants.show("acme")["caps"] == {}
    assert admin.keys.show(issued["key_id"])["limits"] == {}


@pytest.mark.parametrize("value", [0, -1, "5", True, None, 1.5, 10**13])
def test_a_stored_limit_that_cannot_be_read_refuses_the_document(file_world: World, value):
    """A malformed limit in the store never becomes no limit."""
    admin = file_world.tenant()
    issued = admin.keys.issue("acme", "ci", ["generate"])
    admin.limits.set_key_limits(issued["key_id"], {"chars_per_day": 5})
    index = next(i for i in range(99) if issued["key_id"] in admin._context.ring(i))
    body = to_body(admin._context.ring(index))
    assert dict(from_body(body)[issued["key_id"]].limits) == {"chars_per_day": 5}
    body["keys"][issued["key_id"]]["limits"]["chars_per_day"] = value
    with pytest.raises(MalformedKeyringError, match="chars_per_day"):
        from_body(body)


def test_on_the_command_line(tmp_path, redis_url, monkeypatch, capsys):
    """NAME=VALUE, several at a time, `none` to end one; anything else is a usage error."""
    monkeypatch.setenv("QUILLGATE_HOME", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("KEYRING_SHARDS", "2")
    assert main(["tenants", "add", "acme"]) == 0
    capsys.readouterr()
    words = ["tenants", "set-caps", "acme", "chars_per_day=1_000", "concurrency=5", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["caps"] == {"chars_per_day": 1000, "concurrency": 5}
    assert main(["tenants", "set-caps", "acme", "chars_per_day=none"]) == 0
    assert main(["tenants", "set-caps", "acme", "chars=5"]) == 1
    for wrong in ("chars_per_day", "chars_per_day=-5", "chars_per_day=many", "=5"):
        with pytest.raises(SystemExit, match="2"):
            main(["tenants", "set-caps", "acme", wrong])
