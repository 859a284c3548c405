"""The admin page: its role, its panels, and what each of them asks of the API."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.fake_api import Refusal
from tests.support.web_pages import admin_page, button, field, labels, log_in, press
from web.admin_desk import TO_CONFIRM, AdminDesk
from web.admin_keys import TO_ROTATE

pytestmark = pytest.mark.usefixtures("parts")

KEYS = {
    "keys": [
        {"key_id": "AAAAAAAAAAAA", "name": "ci", "tenant": "acme", "state": "active"},
        {"key_id": "BBBBBBBBBBBB", "name": "old", "tenant": "acme", "state": "revoked"},
    ]
}
TENANTS = {"tenants": [{"tenant": "acme", "plan": "standard", "state": "active"}]}
USERS = {"users": [{"user": "ada", "tenant": "acme", "roles": ["user"], "state": "active"}]}
USED = {"tenants": [{"tenant": "acme", "chars": [0, 1200, 34], "requests": 3, "refused": 0}]}
LOAD = {
    "running": 2,
    "waiting": 1,
    "chars_per_second": 12.5,
    "slots": 4,
    "refused": {"invalid_key": 1, "rate_limited": 7},
}


@pytest.fixture
def admin_api(fake_api):
    """Return an API that answers an admin."""
    fake_api.answers |= {
        "GET /v1/admin/keys": KEYS,
        "GET /v1/admin/tenants": TENANTS,
        "GET /v1/admin/users": USERS,
        "GET /v1/admin/usage": USED,
        "GET /v1/admin/load": LOAD,
        "GET /v1/admin/audit": {"records": [{"number": 1, "action": "key.issue"}]},
    }
    return fake_api


def test_the_admin_page_is_not_there_for_others(admin_api):
    """It is not in their pages, and the API is not asked in their name."""
    app = log_in()
    with pytest.raises(ValueError, match="admin"):
        app.switch_page("app_pages/admin.py")
    assert not [call for call in admin_api.calls if "/admin/" in call.path]


def test_an_admin_whose_role_is_taken_away_loses_the_page_at_once(users, parts, admin_api):
    """The role is that of now, not of the login."""
    app = admin_page("Keys")
    users.accounts["root"] = replace(users.accounts["root"], roles=frozenset())
    parts.accounts.refresh()
    asked = len(admin_api.calls)
    app.run()
    assert not app.dataframe
    assert not [call for call in admin_api.calls[asked:] if "/admin/" in call.path]


def test_the_load_is_not_asked_for_once_the_role_is_gone(users, parts, admin_api, monkeypatch):
    """The panel draws itself between two looks of the page: it looks at its reader each time."""
    app = admin_page("Load")

    def role_taken_away(_desk):
        users.accounts["root"] = replace(users.accounts["root"], roles=frozenset())
        parts.accounts.refresh()

    monkeypatch.setattr(AdminDesk, "what_was_done", role_taken_away)
    asked = len(admin_api.calls)
    app.run()
    assert not [call for call in admin_api.calls[asked:] if "/admin/" in call.path]


@pytest.mark.parametrize(
    "dialog",
    [
        ("Keys", {TO_ROTATE: "AAAAAAAAAAAA"}, "admin_keys.table"),
        (
            "Audit",
            {TO_CONFIRM: {"question": "?", "change": []}},
            "admin_desk.AdminDesk.what_was_done",
        ),
    ],
)
@pytest.mark.usefixtures("admin_api")
def test_no_question_outlives_the_role(users, parts, monkeypatch, dialog):
    """A dialog draws itself, also for its answer: it looks at its reader each time."""
    tab, asked, drawn_before = dialog
    app = admin_page(tab)

    def role_taken_away(*_args, **_named):
        users.accounts["root"] = replace(users.accounts["root"], roles=frozenset())
        parts.accounts.refresh()

    monkeypatch.setattr(f"web.{drawn_before}", role_taken_away)
    for name, value in asked.items():
        app.session_state[name] = value
    app.run()
    assert not {"Rotate now", "Yes, do it"} & set(labels(app))


def _say_yes(app, admin_api):
    """Answer the open question, before which nothing was asked of the API."""
    assert not [call for call in admin_api.calls if call.method in ("POST", "PATCH")]
    press(app, "Yes, do it")


def test_nobody_takes_their_own_rights_by_a_click(admin_api):
    """An administrator's own row offers neither the role nor the state."""
    me = {"user": "root", "tenant": "acme", "roles": ["admin"], "state": "active"}
    admin_api.answers["GET /v1/admin/users"] = {"users": [me]}
    app = admin_page("Users")
    field(app, "User").set_value("root").run()
    assert button(app, "Make a user").disabled
    assert button(app, "Disable user").disabled
    assert not button(app, "Reset password").disabled


def test_an_issued_key_is_in_the_list_at_once(admin_api):
    """The list is asked for after the key was issued, in the same run."""
    admin_api.answers["POST /v1/admin/keys"] = {"key": "qg_live_brand_new", "key_id": "C"}
    app = admin_page("Keys")
    field(app, "Name of the key").set_value("ci2")
    press(app, "Issue")
    asked = [f"{call.method} {call.path}" for call in admin_api.calls if "/admin/" in call.path]
    assert asked[-1] == "GET /v1/admin/keys"


def test_only_active_keys_can_be_rotated_or_revoked(admin_api):
    """A revoked key is not offered, and the reason goes along."""
    admin_api.answers["POST /v1/admin/keys/AAAAAAAAAAAA/revoke"] = {"state": "revoked"}
    app = admin_page("Keys")
    chosen = next(box for box in app.selectbox if box.label == "Key")
    assert chosen.options == ["ci · AAAAAAAAAAAA"]
    assert button(app, "Rotate").disabled  # nothing is chosen beforehand
    app = chosen.set_value("AAAAAAAAAAAA").run()
    assert press(app, "Revoke").error[0].value == "A revocation needs a reason."
    field(app, "Reason of a revocation").set_value("leaked")
    press(app, "Revoke")
    _say_yes(app, admin_api)
    assert [told.value for told in app.success] == ["The key is revoked."]
    assert not app.run().success
    body = next(call.body for call in admin_api.calls if call.method == "POST")
    assert body == {"reason": "leaked"}


def test_a_forwarded_key_is_rotated_without_showing_it(admin_api, users):
    """The web app keeps the new secret for the user; nobody has to carry it."""
    keys = [{**KEYS["keys"][0], "forwarded_for": ["ada"]}]
    admin_api.answers["GET /v1/admin/keys"] = {"keys": keys}
    key = f"qg_live_{'n' * 12}_made-up"
    admin_api.answers["POST /v1/admin/keys/AAAAAAAAAAAA/rotate"] = {"key": key}
    app = admin_page("Keys")
    next(box for box in app.selectbox if box.label == "Key").set_value("AAAAAAAAAAAA").run()
    press(app, "Rotate")
    assert users.kept == [("ada", key)]
    assert "forwards now" in app.success[0].value
    assert not app.code


def test_a_row_asks_one_question_before_its_key_is_rotated(admin_api):
    """Nothing is done before the answer; a key that is gone meanwhile is not asked about."""
    admin_api.answers["POST /v1/admin/keys/AAAAAAAAAAAA/rotate"] = {"key": "qg_live_brand_new"}
    app = admin_page("Keys")
    app.session_state[TO_ROTATE] = "AAAAAAAAAAAA"
    app.run()
    assert not [call for call in admin_api.calls if call.method == "POST"]
    app.session_state[TO_ROTATE] = "AAAAAAAAAAAA"  # a dialog runs by itself, but for here
    press(app, "Rotate now")
    assert [code.value for code in app.code] == ["qg_live_brand_new"]
    app.session_state[TO_ROTATE] = "BBBBBBBBBBBB"  # revoked
    app.run()
    assert "Rotate now" not in labels(app)


def test_a_refused_change_is_told_in_the_apis_sentence(admin_api):
    """The admin reads what the command line would say, as plain text."""
    admin_api.answers["PATCH /v1/admin/tenants/acme"] = Refusal(
        409, "conflict", detail="acme *cannot* be disabled"
    )
    app = admin_page("Tenants")
    next(box for box in app.selectbox if box.placeholder == "Choose a tenant").set_value(
        "acme"
    ).run()
    press(app, "Disable")
    _say_yes(app, admin_api)
    assert app.error[0].value == "acme &#42;cannot&#42; be disabled"


def test_the_audit_can_be_verified(admin_api):
    """The answer says how many records are whole."""
    admin_api.answers["GET /v1/admin/audit/verify"] = {"whole": True, "records": 12}
    assert "12 records" in press(admin_page("Audit"), "Verify the chain").success[0].value


def test_the_audit_is_searched_by_name_and_by_kind(admin_api):
    """A key is found by its name, though the record has its id alone."""
    key = KEYS["keys"][0]
    admin_api.answers["GET /v1/admin/audit"] = {
        "records": [
            {"number": 1, "action": "tenant.add", "subject": "acme"},
            {"number": 2, "action": "key.revoke", "subject": key["key_id"]},
            {"number": 3, "action": "key.revoke", "subject": "another"},
        ]
    }
    app = admin_page("Audit")
    assert list(app.dataframe[0].value["No."]) == ["3", "2", "1"]
    app.button_group[0].set_value("Keys").run()
    assert list(app.dataframe[0].value["No."]) == ["3", "2"]
    field(app, "Search").set_value(key["name"].upper()).run()
    assert list(app.dataframe[0].value["No."]) == ["2"]
    field(app, "Search").set_value("nobody").run()
    assert app.info[0].value == "No record matches."


@pytest.mark.parametrize("tab", ["Load", "Tenants", "Keys", "Users", "Audit"])
def test_an_admins_key_without_the_scope_gets_a_sentence(admin_api, tab):
    """The web app's role is not enough: the API has its own word."""
    for path in ("keys", "tenants", "audit", "users", "load", "usage"):
        admin_api.answers[f"GET /v1/admin/{path}"] = Refusal(403, "missing_scope")
    assert {error.value for error in admin_page(tab).error} == {
        "Your API key does not allow this. Ask your administrator."
    }


def test_only_the_open_panel_asks_the_api(admin_api):
    """Lists are read from the secret store: nobody waits for those of another panel."""
    admin_page("Audit")
    asked = {call.path for call in admin_api.calls if "/admin/" in call.path}
    assert asked == {"/v1/admin/audit?limit=1000", "/v1/admin/keys"}


def test_the_load_is_told_in_numbers_and_reasons(admin_api):
    """What runs, what waits, how fast, and what was refused how often."""
    app = admin_page("Load")
    assert [(one.label, one.value) for one in app.metric] == [
        ("Running", "2"),
        ("Waiting", "1"),
        ("Characters a second", "12.5"),
        ("Places", "4"),
    ]
    assert list(app.dataframe[0].value["Refused"]) == ["rate_limited", "invalid_key"]


def test_tenants_show_their_days(admin_api):
    """A line of the last thirty days beside each tenant, and the sum."""
    rows = admin_page("Tenants").dataframe[0].value
    assert list(rows["30 days"][0]) == [0, 1200, 34]
    assert rows["Characters"][0] == "1,234"


def _which(app):
    return next(one for one in app.button_group if one.label == "Which keys")


def test_keys_are_found_by_words_by_disuse_and_by_expiry(admin_api):
    """What an admin looks for under pressure is one click away."""
    old = {"key_id": "CCCCCCCCCCCC", "name": "old", "tenant": "acme", "created_at": 1_000_000_000}
    soon = {"key_id": "DDDDDDDDDDDD", "name": "soon", "expires_in_days": 3, "created_at": 2**33}
    keys = [{**one, "state": "active"} for one in (old, soon)]
    admin_api.answers["GET /v1/admin/keys"] = {"keys": keys}
    admin_api.answers["GET /v1/admin/keys?unused_days=30"] = {"keys": keys[:1]}
    app = admin_page("Keys")
    for chosen, found in (("Unused for 30 days", ["old"]), ("Expiring", ["soon"])):
        _which(app).set_value(chosen)
        app.run()
        assert list(app.dataframe[0].value["Name"]) == found
    _which(app).set_value("All")
    field(app, "Search").set_value("SOON").run()
    assert list(app.dataframe[0].value["Name"]) == ["soon"]


def test_no_key_is_called_unused_while_nobody_knows(admin_api):
    """An admin revokes by that list: the API's sentence stands in its place."""
    why = "Nobody can say which were not used"
    admin_api.answers["GET /v1/admin/keys?unused_days=30"] = Refusal(409, "conflict", detail=why)
    app = admin_page("Keys")
    _which(app).set_value("Unused for 30 days")
    app.run()
    assert [why in one.value for one in app.error] == [True]
    assert not app.dataframe


def test_a_user_is_added_with_a_password_that_is_shown_once(admin_api):
    """The admin hands it over; the web app keeps it nowhere."""
    admin_api.answers["POST /v1/admin/users"] = {"user": "mary", "password": "first of mary"}
    app = admin_page("Users")
    field(app, "Name of the user").set_value("mary")
    press(app, "Add user")
    assert [code.value for code in app.code] == ["first of mary"]
    assert "first of mary" not in repr(app.session_state._state._state)
    sent = next(call.body for call in admin_api.calls if call.method == "POST")
    assert sent == {"user": "mary", "tenant": "acme", "role": "user"}
    assert not press(app, "Done").code


@pytest.mark.parametrize(
    ("label", "method", "path", "body"),
    [
        ("Make an admin", "PATCH", "", {"role": "admin"}),
        ("Disable user", "PATCH", "", {"state": "disabled"}),
        ("Reset password", "POST", "/password", {}),
    ],
)
def test_a_user_is_changed_by_one_button_and_one_question(admin_api, label, method, path, body):
    """Each button is one call of the API, for the user that was chosen."""
    admin_api.answers[f"{method} /v1/admin/users/ada{path}"] = {"user": "ada", "password": "p"}
    app = admin_page("Users")
    assert button(app, label).disabled
    field(app, "User").set_value("ada").run()
    press(app, label)
    _say_yes(app, admin_api)
    sent = [call for call in admin_api.calls if call.method == method]
    assert [(call.path, call.body) for call in sent] == [(f"/v1/admin/users/ada{path}", body)]


def test_what_an_admin_changed_of_a_user_counts_here_at_once(admin_api, users, parts):
    """Who was just told a first password is let in with it, and not with the one before."""
    admin_api.answers["POST /v1/admin/users/ada/password"] = {"user": "ada", "password": "p"}
    app = admin_page("Users")
    field(app, "User").set_value("ada").run()
    press(app, "Reset password")
    users.accounts["ada"] = replace(users.accounts["ada"], must_change_password=True)
    _say_yes(app, admin_api)
    assert parts.accounts.find("ada").must_change_password


def test_another_key_is_assigned_and_not_kept_in_the_form(admin_api):
    """It goes to the API and is gone from the page."""
    admin_api.answers["POST /v1/admin/users/ada/key"] = {"user": "ada"}
    app = admin_page("Users")
    field(app, "User").set_value("ada").run()
    field(app, "Another API key to forward").set_value("qg_live_made_up")
    press(app, "Assign key")
    sent = next(call.body for call in admin_api.calls if call.method == "POST")
    assert sent == {"key": "qg_live_made_up"}
    assert field(app, "Another API key to forward").value == ""
    assert "qg_live_made_up" not in repr(app.session_state._state._state)
