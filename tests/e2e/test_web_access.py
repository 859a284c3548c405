"""Everybody can use the pages: with a screen reader, in dark mode, on a phone."""

from __future__ import annotations

import pytest

from tests.support.axe import axe_script, grave_violations
from tests.support.browser import Tab

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
ADMIN = {
    "GET /v1/admin/keys": {
        "keys": [
            {
                "key_id": "AAAAAAAAAAAA",
                "masked": "qg_live_AAAAAAAAAAAA_...k3Xq",
                "name": "ci",
                "tenant": "acme",
                "plan": "standard",
                "state": "active",
                "scopes": ["generate"],
                "created_at": 1_760_000_000,
                "expires_in_days": 3,
            }
        ]
    },
    "GET /v1/admin/tenants": {
        "tenants": [{"tenant": "acme", "plan": "standard", "state": "active"}],
    },
    "GET /v1/admin/usage": {"tenants": [{"tenant": "acme", "chars": [5, 30, 12, 44] * 7}]},
    "GET /v1/admin/users": {"users": [{"user": "ada", "tenant": "acme", "roles": ["user"]}]},
    "GET /v1/admin/load": {
        "running": 3,
        "waiting": 1,
        "chars_per_second": 5120.5,
        "slots": 8,
        "refused": {"rate_limited": 12, "invalid_key": 2},
    },
    "GET /v1/admin/audit": {"records": [{"number": 1, "action": "key.issue", "at": 1_760_000_000}]},
    "GET /v1/usage": {
        "from": "2026-11-01",
        "to": "2026-11-30",
        "items": [
            {"day": f"2026-11-{day:02}", "chars": day * 997 % 8000, "requests": 3, "refused": 0}
            for day in range(1, 31)
        ],
        "total": {"chars": 120_000, "requests": 90, "refused": 0},
    },
}


@pytest.fixture(scope="module")
def axe():
    return axe_script()


@pytest.fixture
def answers(told_api):
    told_api.answers |= ADMIN
    return told_api


def _in(open_tab, web_server, person, **context) -> Tab:
    tab = open_tab(web_server.url, **context)
    tab.log_in(person.name, person.password)
    tab.button("Generate Text").wait_for()
    tab.idle()
    return tab


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave_on_any_page(web_world, answers, open_tab, axe, scheme):
    """No serious and no critical violation, in light and in dark, with everything unfolded."""
    found: dict[str, list[str]] = {}

    def look(name: str) -> None:
        tab.idle()
        found[name] = grave_violations(tab.page, axe)
        if name in ("login", "compare"):
            tab.picture(f"{name}-{scheme}")

    tab = open_tab(web_world.server.url, color_scheme=scheme)
    look("login")
    tab.log_in(web_world.home.root.name, web_world.home.root.password)
    tab.button("Generate Text").wait_for()
    tab.idle()
    tab.page.get_by_text("More").click()
    tab.page.get_by_text("Compare two temperatures").click()
    tab.idle()
    tab.button("Generate Text").click()
    tab.page.get_by_text("finished ·").nth(1).wait_for()
    tab.idle()
    tab.page.get_by_text("This call in a program").first.click()
    tab.page.get_by_text("curl -sS").wait_for()
    look("compare")
    for name in ("Usage", "My API key", "Admin"):
        tab.go_to(name)
        look(name.lower().replace(" ", "-"))
    for panel, seen in (
        ("Tenants", "Add a tenant"),
        ("Keys", "Issue a key"),
        ("Users", "Add a user"),
        ("Audit", "Verify the chain"),
    ):
        tab.page.get_by_role("tab", name=panel).click()
        tab.sees(seen)
        look(f"admin-{panel.lower()}")
    assert {name: problems for name, problems in found.items() if problems} == {}
    assert tab.complaints == []


def test_a_phone_has_everything_without_scrolling_sideways(
    web_server, web_world, answers, open_tab
):
    """At 390 pixels no page is wider than the screen, and the buttons work."""
    tab = _in(open_tab, web_server, web_world.home.root, **PHONE, color_scheme="dark")
    tab.picture("phone-form-dark")
    tab.button("Generate Text").click()
    tab.sees("finished ·")
    tab.idle()
    tab.page.locator("[data-testid=stCode]").first.scroll_into_view_if_needed()
    tab.picture("phone-done-dark")
    for path in ("/", "/usage", "/key", "/admin"):
        tab.open(path)
        tab.page.get_by_role("heading").first.wait_for()
        tab.idle()
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
