"""The whole road: a person, a real browser, the real web app, the real API, a real Redis, a GPT."""

from __future__ import annotations

import json
import threading

import pytest

from auth.audit import Actor
from auth.config import AuthSettings
from auth.stores import open_stores
from tests.support.web_server import WebServer

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine


@pytest.fixture
def api(api_server, web_home, redis_url, tiny_model):
    return api_server(
        QUILLGATE_HOME=str(web_home.path), REDIS_URL=redis_url, MODEL_URI=str(tiny_model)
    )


@pytest.fixture
def web(api, web_home):
    server = WebServer(web_home.path, api.url)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def admin(web_home, redis_url):
    """Return an admin whose changes every instance learns of at once."""
    settings = AuthSettings.from_env({"QUILLGATE_HOME": str(web_home.path)})
    stores = open_stores(settings, redis_url)
    yield stores.admin(Actor("cli:test", "local"))
    stores.close()


def _text(tab):
    return tab.page.locator("[data-testid=stCode] code").text_content()


def _set(tab, name, value, role="textbox"):
    field = tab.field(name, role)
    field.fill(value)
    field.press("Tab")
    tab.idle()


def _wait_until(holds):
    for _ in range(1500):
        if holds():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it never came true")


def test_log_in_generate_watch_stop_log_out(api, web, web_home, open_tab):
    """Text streams in, Stop keeps it and reaches the API, the same seed gives the same text, and
    after logout a replayed cookie shows the login form."""
    tab = open_tab(web.url)
    tab.log_in(web_home.ada.name, web_home.ada.password)
    tab.button("Generate Text").wait_for()
    tab.idle()
    tab.button("Test Connection").click()
    tab.sees("Key accepted")
    tab.idle()

    _set(tab, "Seed", "42")
    _set(tab, "Number of characters", "10000", "spinbutton")
    tab.button("Generate Text").click()
    tab.page.locator("[data-testid=stCode]").wait_for()
    lengths = {len(_text(tab))}

    def grew():
        lengths.add(len(_text(tab)))
        return len(lengths) >= 4 and max(lengths) >= 200

    _wait_until(grew)
    tab.button("Stop").click()
    tab.sees("stopped ·")
    tab.idle()
    kept = _text(tab)
    assert max(lengths) <= len(kept) < 10_000
    _wait_until(lambda: _finishes(api) == ["aborted"])

    for number in (100, 120):
        _set(tab, "Number of characters", str(number), "spinbutton")
        tab.button("Generate Text").click()
        tab.sees(f"finished · {number} of {number} characters")
        tab.idle()
        assert _text(tab) == kept[:number]

    _wait_until(tab.session_cookie)
    copied = tab.session_cookie()
    tab.button("Logout").click()
    tab.field("Username").wait_for()
    thief = open_tab(web.url)
    thief.context.add_cookies([copied])
    thief.open()
    thief.field("Username").wait_for()
    assert tab.complaints == []
    secret = web_home.ada.key.split("_")[3]
    assert secret not in api.log
    assert secret not in web.log.read_text()


def _finishes(api):
    ended = [line for line in api.lines if '"finish' in line and line.startswith("{")]
    return [
        json.loads(line).get("finish_reason") or json.loads(line).get("finish") for line in ended
    ]


def test_a_key_that_is_rotated_elsewhere_goes_unnoticed(web, web_home, admin, open_tab):
    """The old secret ends at once; the web app reads the new one and the text comes."""
    tab = open_tab(web.url)
    tab.log_in(web_home.ada.name, web_home.ada.password)
    tab.button("Generate Text").click()
    tab.sees("finished ·")
    tab.idle()
    first = _text(tab)
    rotated = admin.keys.rotate(admin.users.show("ada")["key_id"], deadline_seconds=0)
    admin.users.assign_key("ada", rotated["key"])
    tab.button("Generate Text").click()
    _wait_until(lambda: tab.page.get_by_text("finished ·").count() and _text(tab) != first)


def test_a_revoked_key_is_told_in_one_sentence(web, web_home, admin, open_tab):
    """The person learns whom to ask, and a plan's 422 is told beside its field."""
    tab = open_tab(web.url)
    tab.log_in(web_home.ada.name, web_home.ada.password)
    tab.button("Generate Text").wait_for()
    tab.idle()
    _set(tab, "Prompt", "an ☃ is not in the alphabet")
    tab.button("Generate Text").click()
    tab.sees("Please look at the marked field.")
    tab.idle()
    admin.keys.revoke(admin.users.show("ada")["key_id"], reason="test")
    _set(tab, "Prompt", "plain")
    tab.button("Generate Text").click()
    tab.sees("Your API key was refused.")


def _open_admin(tab):
    tab.page.get_by_role("link", name="Admin").click()
    # What the page draws last: before it is there, a click may hit what is being replaced.
    tab.page.get_by_text("Verify the chain").wait_for(state="attached")
    tab.idle()


def test_an_admin_issues_a_key_that_works_at_once_and_revokes_it(api, web, web_home, open_tab):
    """The key is shown once, generates, counts as usage, and is refused after its revocation."""
    tab = open_tab(web.url)
    tab.log_in(web_home.root.name, web_home.root.password)
    tab.button("Generate Text").wait_for()
    _open_admin(tab)
    tab.page.get_by_text("Issue a key").click()
    _set(tab, "Name of the key", "ci")
    tab.button("Issue").click()
    tab.sees("Copy it now")
    tab.idle()
    key = _text(tab).strip()
    written = api.post("/generate", key, num_chars=50, seed=1)
    assert (written.status_code, len(written.json()["text"])) == (200, 50)

    tab.page.get_by_role("link", name="Usage").click()
    tab.page.get_by_role("heading", name="Usage").wait_for()
    tab.sees("Everything that was used in acme")

    _open_admin(tab)
    tab.page.get_by_text("Rotate or revoke a key").click()
    option = tab.page.get_by_role("option", name=f"ci · {key.split('_')[2]}")
    for _ in range(10):  # the list closes again if it was opened while the panel still unfolds
        tab.page.wait_for_timeout(500)
        if option.count():
            break
        tab.page.get_by_role("combobox", name="Key").click()
    option.click()
    tab.idle()
    _set(tab, "Reason of a revocation", "leaked")
    tab.button("Revoke").click()
    tab.sees("The key is revoked.")
    assert api.post("/generate", key, num_chars=50).status_code == 401
    tab.page.get_by_role("tab", name="Audit").click()
    tab.button("Verify the chain").click()
    tab.sees("The chain is whole")
    assert tab.complaints == []
