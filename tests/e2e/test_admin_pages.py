"""The admin's page in a real browser, in front of an API that does as it is told."""

from __future__ import annotations

import json

import pytest

from tests.support.admin_answers import ADMIN
from tests.support.browser import Tab

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine

PANELS = (
    ("Tenants", "Add a tenant"),
    ("Keys", "Issue a key"),
    ("Users", "Add a user"),
    ("Audit", "Verify the chain"),
)
NEW_KEY = "a new key, as the API answers it"
ROW_PIXELS = 35  # of a table that Streamlit draws


@pytest.fixture
def api(told_api):
    told_api.answers |= ADMIN
    told_api.answers["POST /v1/admin/keys/AAAAAAAAAAAA/rotate"] = {"key": NEW_KEY}
    return told_api


@pytest.fixture
def admin_tab(api, web_server, web_world, open_tab) -> Tab:
    tab = open_tab(web_server.url)
    tab.log_in(web_world.home.root.name, web_world.home.root.password)
    tab.button("Generate Text").wait_for()
    tab.idle()
    return tab


def _click_row(tab: Tab, row: int) -> None:
    """Click into the first column of a row."""
    table = tab.page.locator("[data-testid=stDataFrame] .dvn-scroller").first
    table.click(position={"x": 40, "y": ROW_PIXELS * (row + 1.5)})


def test_a_key_is_rotated_in_two_clicks(api, admin_tab):
    """One on its row, one on the only button of the question; the new key is shown once."""
    admin_tab.go_to("Admin")
    admin_tab.page.get_by_role("tab", name="Keys").click()
    admin_tab.sees("Issue a key")
    admin_tab.idle()
    admin_tab.page.evaluate(
        "window.clicks = 0; addEventListener('click', () => { window.clicks += 1; }, true)"
    )
    _click_row(admin_tab, 0)
    question = admin_tab.page.get_by_role("dialog")
    question.get_by_text("ci of acme gets a new secret.").wait_for()
    admin_tab.idle()
    admin_tab.picture("admin-rotate")
    question.get_by_role("button", name="Rotate now").click()
    admin_tab.sees(NEW_KEY)
    assert admin_tab.page.evaluate("window.clicks") == 2
    assert [call.path for call in api.calls if call.method == "POST"] == [
        "/v1/admin/keys/AAAAAAAAAAAA/rotate"
    ]
    question.wait_for(state="detached")
    admin_tab.idle()
    admin_tab.page.get_by_text("Issue a key").scroll_into_view_if_needed()
    admin_tab.button("Done").click()
    admin_tab.page.get_by_text(NEW_KEY).wait_for(state="detached")
    assert admin_tab.complaints == []


def test_the_admins_key_is_nowhere_a_browser_or_a_log_could_show_it(
    api, web_server, web_world, admin_tab
):
    """Not in any panel, cookie, storage, URL, traffic or log."""
    received: list[bytes] = []

    def keep_frame(frame):
        received.append(frame if isinstance(frame, bytes) else frame.encode())

    admin_tab.page.on("websocket", lambda socket: socket.on("framereceived", keep_frame))
    admin_tab.open("/admin")
    admin_tab.page.get_by_role("heading", name="Admin").wait_for()
    admin_tab.sees("Characters a second")
    pages = [admin_tab.page.content()]
    for panel, seen in PANELS:
        admin_tab.page.get_by_role("tab", name=panel).click()
        admin_tab.sees(seen)
        admin_tab.idle()
        pages.append(admin_tab.page.content())
    storage = admin_tab.page.evaluate("JSON.stringify([localStorage, sessionStorage])")
    seen = {
        "pages": "".join(pages).encode(),
        "cookies": json.dumps(admin_tab.context.cookies()).encode(),
        "storage": storage.encode(),
        "urls": "".join([*admin_tab.requested, admin_tab.page.url]).encode(),
        "websocket": b"".join(received),
        "log": web_server.log.read_bytes(),
    }
    root = web_world.home.root
    assert {call.key for call in api.calls if "/admin/" in call.path} == {root.key}
    assert b"qg_live_AAAAAAAAAAAA_...k3Xq" in seen["websocket"]  # lists did go by here
    secret = root.key.split("_")[3].encode()
    assert [where for where, text in seen.items() if secret in text] == []
