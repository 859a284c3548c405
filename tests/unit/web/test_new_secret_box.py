"""New keys and passwords on the pages: shown until they were put away."""

from __future__ import annotations

import pytest

from tests.support.admin_answers import ADMIN
from tests.support.web_pages import admin_page, field, press
from web.new_secrets import NewSecret

pytestmark = pytest.mark.usefixtures("parts")


@pytest.fixture
def admin_api(fake_api):
    fake_api.answers |= ADMIN
    return fake_api


def test_an_issued_key_is_shown_once(admin_api):
    """It is there until it was put away, whatever is done meanwhile, and then gone."""
    admin_api.answers["POST /v1/admin/keys"] = {"key": "qg_live_brand_new", "key_id": "C"}
    app = admin_page("Keys")
    field(app, "Name of the key").set_value(" ci2 ")
    press(app, "Issue")
    assert [code.value for code in app.code] == ["qg_live_brand_new"]
    body = next(call.body for call in admin_api.calls if call.method == "POST")
    assert (body["tenant"], body["name"], body["scopes"]) == ("acme", "ci2", ["generate"])
    assert "qg_live_brand_new" not in repr(app.session_state._state._state)
    app.switch_page("app_pages/usage.py").run()
    assert [code.value for code in app.code] == ["qg_live_brand_new"]
    assert not press(app, "Done").code


def test_a_key_that_is_revoked_is_shown_no_longer(admin_api):
    """Whoever copied it after that would hold a key that opens nothing."""
    admin_api.answers["POST /v1/admin/keys"] = {"key": "qg_live_AAAAAAAAAAAA_made-up"}
    admin_api.answers["POST /v1/admin/keys/AAAAAAAAAAAA/revoke"] = {"state": "revoked"}
    app = admin_page("Keys")
    field(app, "Name of the key").set_value("ci")
    assert press(app, "Issue").code
    next(box for box in app.selectbox if box.label == "Key").set_value("AAAAAAAAAAAA").run()
    field(app, "Reason of a revocation").set_value("leaked")
    press(press(app, "Revoke"), "Yes, do it")
    assert not app.code


def test_all_new_keys_are_shown_until_they_were_put_away(admin_api):
    """The newest first, each with what it is of: no one takes the place of another."""
    app = admin_page("Keys")
    for name in ("ci", "cd"):
        admin_api.answers["POST /v1/admin/keys"] = {"key": f"qg_live_{name}"}
        field(app, "Name of the key").set_value(name)
        press(app, "Issue")
    assert [code.value for code in app.code] == ["qg_live_cd", "qg_live_ci"]
    assert ["cd" in told.value for told in app.warning] == [True, False]
    assert not press(app, "Done").code


def test_a_second_click_issues_no_second_key(admin_api):
    """It ends the run that the first began, and shows what that had been given."""
    admin_api.answers["POST /v1/admin/keys"] = {"key": "qg_live_brand_new"}
    app = admin_page("Keys")
    field(app, "Name of the key").set_value("ci")
    press(app, "Issue")
    press(app, "Issue")
    assert [code.value for code in app.code] == ["qg_live_brand_new"]
    assert len([call for call in admin_api.calls if call.method == "POST"]) == 1


def test_done_puts_away_what_was_shown_and_no_more(admin_api, parts):
    """A key that came in the moment of the click was seen by nobody: it is shown."""
    admin_api.answers["POST /v1/admin/keys"] = {"key": "qg_live_brand_new"}
    app = admin_page("Keys")
    press(app, "Issue")
    held = parts.new_secrets._held[0]
    parts.new_secrets.keep(held.tab, held.login_id, NewSecret("Another.", "unseen"))
    assert [code.value for code in press(app, "Done").code] == ["unseen", "qg_live_brand_new"]
    assert not press(app, "Done").code
