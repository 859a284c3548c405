"""A key's own account, its rotation by its holder, and the admin's routes: all on real parts."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest

from tests.support.live_api import LiveApi


def call(live: LiveApi, method: str, path: str, key: str, **how: object) -> httpx.Response:
    return httpx.request(
        method, live.server.url + path, headers={"X-API-Key": key}, timeout=60, **how
    )


@pytest.fixture
def admin_key(live_api):
    return live_api.issue(scopes=("admin",))["key"]


def test_a_holder_rotates_and_cancels(live_api):
    """The new secret is shown once and unused until then; cancelled, it is nobody's."""
    issued = live_api.issue()
    old = issued["key"]
    rotated = call(live_api, "POST", "/v1/key/rotate", old)
    assert rotated.status_code == 200
    new = rotated.json()["key"]
    assert new != old
    assert rotated.json()["key_id"] == issued["key_id"]
    forced = call(live_api, "POST", "/v1/key/rotate", old, json={"force": True})
    assert forced.status_code == 409
    assert "this is the old secret" in forced.json()["detail"]
    again = call(live_api, "POST", "/v1/key/rotate", old, json={})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert call(live_api, "DELETE", "/v1/key/rotation", old).status_code == 200
    assert live_api.server.get("/v1/key", new).status_code == 401
    assert live_api.server.get("/v1/key", old).json()["rotation"] is None


def test_a_used_rotation_cannot_be_cancelled(live_api):
    """Once the new secret was used the old one is on its way out."""
    old = live_api.issue()["key"]
    new = call(live_api, "POST", "/v1/key/rotate", old, json={"grace_seconds": 60}).json()["key"]
    assert live_api.server.post("/generate", new, num_chars=1).status_code == 200
    assert call(live_api, "DELETE", "/v1/key/rotation", new).status_code == 409
    state = live_api.server.get("/v1/key", old).json()["rotation"]
    assert state["secret_used"] == "old"
    assert state["sunset_at"] <= datetime.now(UTC).timestamp() + 61


def test_a_rotation_without_grace_ends_the_old_secret_at_once(live_api):
    """A deadline of 0 is for a key that leaked."""
    old = live_api.issue()["key"]
    new = call(live_api, "POST", "/v1/key/rotate", old, json={"deadline_seconds": 0}).json()["key"]
    assert live_api.server.post("/generate", old, num_chars=1).status_code == 401
    assert live_api.server.post("/generate", new, num_chars=1).status_code == 200


def test_a_web_users_key_rotates_in_the_store_that_the_web_app_reads(live_api):
    """Its holder's rotation changes the web app's copy too, unless the caller sees to that."""
    tenant = live_api.tenant()
    user = f"u-{tenant}"
    live_api.admin.users.add(user, tenant)
    users = live_api.admin._context.users
    first = users.key_of(user)
    second = call(live_api, "POST", "/v1/key/rotate", first).json()["key"]
    assert users.key_of(user) == second
    assert call(live_api, "DELETE", "/v1/key/rotation", first).status_code == 200
    assert users.key_of(user) == first
    third = call(live_api, "POST", "/v1/key/rotate", first, json={"web_copy": True}).json()["key"]
    assert users.key_of(user) == first
    assert live_api.server.get("/v1/key", third).status_code == 200
    undone = call(live_api, "DELETE", "/v1/key/rotation?web_copy=maybe", first)
    assert (undone.status_code, undone.json()["errors"][0]["field"]) == (422, "web_copy")


def test_usage_adds_up(live_api):
    """Characters and requests by day and by key are what was answered; other tenants see none."""
    issued, other = live_api.issue(), live_api.issue()
    for num_chars in (3, 4, 5):
        live_api.server.post("/generate", issued["key"], num_chars=num_chars)
    live_api.server.post("/generate", issued["key"], num_chars=0)
    by_day = live_api.server.get("/v1/usage", issued["key"]).json()
    assert by_day["tenant"] == issued["tenant"]
    assert by_day["total"] == {"chars": 12, "requests": 3, "refused": 0}
    assert sum(item["chars"] for item in by_day["items"]) == 12
    by_key = live_api.server.get("/v1/usage?group_by=key", issued["key"]).json()
    assert [item["key_id"] for item in by_key["items"]] == [issued["key_id"]]
    assert live_api.server.get("/v1/usage", other["key"]).json()["items"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("to=2026-02-30", "to"),
        ("group_by=tenant", "group_by"),
        ("from=2026-02-02&to=2026-02-01", "from"),
        ("from=2020-01-01&to=2026-01-01", "from"),
        ("tenant=other", "tenant"),
        ("to=0001-01-01", "to"),  # there are no thirty days before it
        ("from=\u0662\u0660\u0662\u0666-11-01", "from"),  # digits, but not those of a date here
        ("from=2026-11-1", "from"),
        ("from=2026-11-01&from=2026-11-02", "from"),
        ("group_by=day&group_by=key", "group_by"),
    ],
)
def test_bad_queries_are_refused_by_name(live_api, fresh_key, query, field):
    """Neither a wrong date nor somebody else's tenant can be asked for."""
    answer = live_api.server.get(f"/v1/usage?{query}", fresh_key())
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["field"] == field


def test_scopes_hold(live_api):
    """A key that may only generate may do nothing else, and an admin's may not generate."""
    user = live_api.issue(scopes=("generate",))["key"]
    admin = live_api.issue(scopes=("admin",))["key"]
    for key, method, path in (
        (user, "GET", "/v1/usage"),
        (user, "POST", "/v1/key/rotate"),
        (user, "GET", "/v1/admin/tenants"),
        (user, "GET", "/v1/admin/audit"),
        (admin, "GET", "/v1/models"),
        (admin, "GET", "/v1/usage"),
    ):
        answer = call(live_api, method, path, key)
        assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope"), path


def test_an_admin_works_over_http(live_api, admin_key):
    """A tenant and a key from nothing to revoked, and each step is in the audit chain."""

    def admin(method: str, path: str, **body: object) -> httpx.Response:
        return call(live_api, method, f"/v1/admin{path}", admin_key, json=body)

    tenant = f"http-{admin_key[8:20].lower()}"
    assert admin("POST", "/tenants", tenant=tenant, plan="free").json()["state"] == "active"
    assert admin("POST", "/tenants", tenant=tenant, plan="free").status_code == 409
    assert admin("PATCH", f"/tenants/{tenant}", plan="partner").json()["plan"] == "partner"
    issued = admin("POST", "/keys", tenant=tenant, name="ci", scopes=["generate"]).json()
    key, key_id = issued["key"], issued["key_id"]
    assert live_api.server.post("/generate", key, num_chars=1).status_code == 200
    shown = call(live_api, "GET", f"/v1/admin/keys/{key_id}", admin_key)
    assert "key" not in shown.json()
    assert key.split("_")[3] not in shown.text
    changed = admin("PATCH", f"/keys/{key_id}", name="nightly", allowed_cidrs=["192.0.2.0/24"])
    assert changed.json()["name"] == "nightly"
    assert live_api.server.post("/generate", key, num_chars=1).status_code == 403
    assert admin("PATCH", f"/keys/{key_id}", allowed_cidrs=[]).status_code == 200
    rotated = admin("POST", f"/keys/{key_id}/rotate", deadline_seconds=600)
    assert live_api.server.post("/generate", rotated.json()["key"], num_chars=1).status_code == 200
    assert admin("PATCH", f"/tenants/{tenant}", state="disabled").json()["state"] == "disabled"
    assert live_api.server.post("/generate", key, num_chars=1).status_code == 403
    assert admin("PATCH", f"/tenants/{tenant}", state="active").json()["state"] == "active"
    revoked = admin("POST", f"/keys/{key_id}/revoke", reason="test")
    assert revoked.json()["state"] == "revoked"
    assert live_api.server.post("/generate", key, num_chars=1).status_code == 401
    listed = call(live_api, "GET", f"/v1/admin/keys?tenant={tenant}", admin_key).json()["keys"]
    assert [one["key_id"] for one in listed] == [key_id]
    records = call(live_api, "GET", "/v1/admin/audit?limit=20", admin_key).json()["records"]
    mine = [record for record in records if record["actor"] == f"key:{admin_key[8:20]}"]
    assert mine[-1]["action"] == "key.revoke"
    assert call(live_api, "GET", "/v1/admin/audit/verify", admin_key).json()["whole"] is True


def test_unknown_names_are_404_and_refusals_409(live_api, admin_key):
    """What does not exist is not found; what may not be says why."""
    for path in ("/v1/admin/keys/AAAAAAAAAAAA", "/v1/admin/tenants/nobody"):
        assert call(live_api, "GET", path, admin_key).json()["code"] == "not_found"
    refused = call(
        live_api,
        "POST",
        "/v1/admin/keys",
        admin_key,
        json={"tenant": live_api.tenant(), "name": "x", "scopes": ["everything"]},
    )
    assert refused.json()["code"] == "conflict"
    assert "everything" in refused.json()["detail"]


def test_an_admin_caps_a_tenant_and_limits_a_key(live_api, admin_key):
    """The next request obeys, on the same key, and its account tells what holds."""
    issued = live_api.issue()
    key, tenant = issued["key"], issued["tenant"]
    assert live_api.server.post("/generate", key, num_chars=30).status_code == 200
    path = f"/v1/admin/keys/{issued['key_id']}/limits"
    answer = call(live_api, "PATCH", path, admin_key, json={"chars_per_day": 50})
    assert answer.json()["limits"] == {"chars_per_day": 50}
    refused = live_api.server.post("/generate", key, num_chars=21)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert live_api.server.post("/generate", key, num_chars=20).status_code == 200
    call(live_api, "PATCH", path, admin_key, json={"chars_per_day": None})
    caps = f"/v1/admin/tenants/{tenant}/caps"
    answer = call(live_api, "PATCH", caps, admin_key, json={"chars_per_month": 40})
    assert answer.json()["caps"] == {"chars_per_month": 40}
    assert live_api.server.post("/generate", key, num_chars=41).json()["code"] == "exceeds_plan"
    assert live_api.server.post("/generate", key, num_chars=40).status_code == 200
    refused = live_api.server.post("/generate", key, num_chars=1)
    assert refused.json()["detail"].startswith('The limit "tenant_chars_per_month"')
    assert live_api.left(key)["tenant_chars_per_month"] == 0
    for wrong in ({"chars_per_month": 0}, {"chars_per_month": "9"}, {"chars": 9}):
        answer = call(live_api, "PATCH", caps, admin_key, json=wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_dry_run_says_what_would_be_and_charges_nothing(live_api):
    """Cost, admitted or not, the binding limit and the wait; then the real request agrees."""
    key = live_api.issue(plan="free")["key"]

    def foretold(num_chars: int) -> dict:
        answer = live_api.server.post("/generate?dry_run=1", key, num_chars=num_chars)
        assert answer.status_code == 200
        assert "retry-after" not in answer.headers
        assert answer.headers["ratelimit"].startswith('"requests_per_minute";r=')
        return answer.json()

    before = live_api.left(key)
    told = foretold(300)
    assert told["dry_run"] is True
    assert told["cost"] == {"requests": 1, "chars": 300}
    assert (told["admitted"], told["code"], told["retry_after_ms"]) == (True, None, None)
    told = foretold(1001)
    assert (told["admitted"], told["code"], told["limit"]) == (
        *(False, "exceeds_plan"),
        "max_num_chars",
    )
    assert live_api.left(key) == before
    for _ in range(12):  # one comes back every six seconds
        answer = live_api.server.post("/generate", key, num_chars=1)
        told = foretold(1)
        if answer.status_code == 429:
            break
    assert (told["admitted"], told["code"]) == (False, "rate_limited")
    assert 0 < told["retry_after_ms"] <= int(answer.headers["retry-after-ms"])
    for value in ("true", "yes", ""):
        answer = live_api.server.post(f"/generate?dry_run={value}", key, num_chars=1)
        assert answer.json()["errors"] == [{"field": "dry_run", "message": "must be 0 or 1"}]


def test_a_key_knows_when_it_was_last_used(live_api):
    """Never before its first request; reading one's own account is a use of it."""
    issued = live_api.issue()
    assert live_api.admin.keys.show(issued["key_id"])["last_used_at"] is None
    now = datetime.now(UTC).timestamp()
    used = live_api.server.get("/v1/key", issued["key"]).json()["last_used_at"]
    assert abs(used - now) < 60
    assert live_api.admin.keys.show(issued["key_id"])["last_used_at"] >= used


def test_an_admin_sees_the_load_and_each_tenants_days(live_api, admin_key):
    """This instance's numbers, refusals by reason, and thirty days of every tenant."""
    issued = live_api.issue()
    assert live_api.server.post("/generate", issued["key"], num_chars=7).status_code == 200
    assert live_api.server.post("/generate", issued["key"], num_chars=0).status_code == 422
    load = live_api.server.get("/v1/admin/load", admin_key).json()
    assert load["slots"] >= 1
    assert load["running"] >= 0
    assert load["refused"]["invalid_request"] >= 1
    used = live_api.server.get("/v1/admin/usage", admin_key).json()["tenants"]
    mine = next(one for one in used if one["tenant"] == issued["tenant"])
    assert (len(mine["chars"]), mine["chars"][-1], mine["requests"]) == (30, 7, 1)
    assert mine["keys"][issued["key_id"]] == {"chars": 7, "requests": 1, "refused": 0}


def test_an_admin_keeps_the_web_users(live_api, admin_key):
    """Add, set role, disable, reset password, assign key: each as the command line does it."""
    issued = live_api.issue()
    name = f"person-{issued['tenant']}"
    body = {"user": name, "tenant": issued["tenant"]}
    response = call(live_api, "POST", "/v1/admin/users", admin_key, json=body)
    assert response.status_code == 200, response.json()["detail"]
    added = response.json()
    assert (added["must_change_password"], len(added["password"])) == (True, 20)
    assert call(live_api, "POST", "/v1/admin/users", admin_key, json=body).status_code == 409
    changed = {"role": "admin", "state": "disabled"}
    view = call(live_api, "PATCH", f"/v1/admin/users/{name}", admin_key, json=changed).json()
    assert (view["roles"], view["state"]) == (["admin", "user"], "disabled")
    again = call(live_api, "POST", f"/v1/admin/users/{name}/password", admin_key).json()
    assert again["password"] != added["password"]
    given = {"key": issued["key"]}
    view = call(live_api, "POST", f"/v1/admin/users/{name}/key", admin_key, json=given).json()
    assert view["key_id"] == issued["key_id"]
    listed = live_api.server.get("/v1/admin/users", admin_key).json()["users"]
    assert name in [one["user"] for one in listed]
    assert "password" not in str(listed).replace("must_change_password", "").replace(
        "password_changed_at", ""
    )
    unknown = call(live_api, "PATCH", "/v1/admin/users/nobody", admin_key, json={"role": "user"})
    assert unknown.status_code == 404


def test_a_person_changes_their_own_password_with_the_present_one(live_api):
    """Only with the present password and with the very key that is forwarded for them."""
    tenant = live_api.tenant()
    added = live_api.admin.users.add("john", tenant)
    key = live_api.admin._context.users.key_of("john")
    body = {"user": "john", "current_password": added["password"], "new_password": "x" * 12}
    stranger = live_api.issue()["key"]
    for wrong_key, wrong in ((stranger, body), (key, {**body, "current_password": "wrong"})):
        refused = call(live_api, "POST", "/v1/user/password", wrong_key, json=wrong)
        assert refused.status_code == 422
        assert [one["field"] for one in refused.json()["errors"]] == ["current_password"]
    short = call(live_api, "POST", "/v1/user/password", key, json={**body, "new_password": "x"})
    assert short.status_code == 409
    assert "at least 10 characters" in short.json()["detail"]
    changed = call(live_api, "POST", "/v1/user/password", key, json=body)
    assert changed.json()["must_change_password"] is False
    assert call(live_api, "POST", "/v1/user/password", key, json=body).status_code == 422
