"""Everybody can use the pages: with a screen reader, in dark mode, on a phone."""

from __future__ import annotations

import pytest

from tests.support.admin_answers import ADMIN
from tests.support.axe import axe_script, grave_violations
from tests.support.browser import Tab
from tests.support.fake_api import Behaviour, Refusal

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


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
    """No serious and no critical violation, in light and in dark, with everything unfolded; each
    page says in its title which it is."""
    found: dict[str, list[str]] = {}

    def look(name: str) -> None:
        tab.idle()
        found[name] = grave_violations(tab.page, axe)
        if name == "login":
            tab.picture(f"{name}-{scheme}")

    tab = open_tab(web_world.server.url, color_scheme=scheme)
    look("login")
    tab.log_in(web_world.home.root.name, web_world.home.root.password)
    tab.button("Generate Text").wait_for()
    tab.idle()
    tab.compare()
    tab.button("Generate Text").click()
    tab.page.get_by_text("finished ·").nth(1).wait_for()
    tab.idle()
    tab.page.get_by_text("This call in a program").first.click()
    tab.page.get_by_text("curl -sS").wait_for()
    look("compare")
    for name in ("Usage", "My API key", "Admin"):
        tab.go_to(name)
        look(name.lower().replace(" ", "-"))
        tab.until(lambda title=f"{name} · Quillgate": tab.page.title() == title)
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


def _has_focus(locator) -> bool:
    return locator.count() > 0 and locator.evaluate("one => one === document.activeElement")


def test_the_login_needs_no_mouse(web_world, told_api, open_tab):
    """The cursor is in Username on arrival, Tab leads to Password, and Enter logs in; what failed
    can be typed again from there."""
    tab, ada = open_tab(web_world.server.url), web_world.home.ada
    username, password = tab.field("Username"), tab.field("Password")
    tab.until(lambda: _has_focus(username))
    assert not tab.page.get_by_text("Press Enter").first.is_visible()  # it would lie in the field
    for tried in ("wrong", ada.password):
        username.press("Control+a")
        tab.page.keyboard.type(ada.name)
        tab.page.keyboard.press("Tab")
        assert _has_focus(password)
        tab.page.keyboard.press("Control+a")
        tab.page.keyboard.type(tried)
        tab.page.keyboard.press("Enter")
        if tried == "wrong":
            tab.sees("Username or password is not right.")
            tab.idle()
    tab.button("Generate Text").wait_for()


def test_the_keyboard_goes_through_the_page_as_one_reads_it(adas_tab):
    """What is asked for, what comes of it, and the settings; nothing twice, and one sees where."""
    tab = adas_tab
    stops = {
        "Prompt": tab.field("Prompt"),
        "Generate": tab.button("Generate Text"),
        "Seed": tab.field("Seed"),
        "Roll": tab.button("Roll"),
        "Temperature": tab.field("Temperature", "spinbutton"),
        "Number of characters": tab.field("Number of characters", "spinbutton"),
        "More": tab.page.locator("summary", has_text="More"),
    }
    visited: list[str] = []
    for _ in range(60):
        tab.page.keyboard.press("Tab")
        visited += [name for name, stop in stops.items() if _has_focus(stop)]
        if "More" in visited:
            break
    assert visited == list(stops)
    link = tab.page.get_by_role("link", name="Usage")
    link.focus()
    assert link.evaluate("link => getComputedStyle(link).outlineStyle") == "solid"


def test_a_phone_has_everything_without_scrolling_sideways(
    web_server, web_world, answers, open_tab
):
    """At 390 pixels no page is wider than the screen, and the buttons work."""
    tab = _in(open_tab, web_server, web_world.home.root, **PHONE, color_scheme="dark")
    assert not tab.page.locator("kbd").first.is_visible()  # there are no keys to hint at
    tab.button("Generate Text").click()
    tab.sees("finished ·")
    tab.idle()
    for path in ("/", "/usage", "/key", "/admin"):
        tab.open(path)
        tab.page.get_by_role("heading").first.wait_for()
        tab.idle()
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("size", [(360, 740), (390, 844)], ids=str)
def test_on_a_phone_one_sees_what_one_asked_for(web_server, web_world, told_api, open_tab, size):
    """Without scrolling: the buttons on arrival, then progress, first text, and a countdown."""
    width, height = size
    phone = {**PHONE, "viewport": {"width": width, "height": height}}
    tab = _in(open_tab, web_server, web_world.home.ada, **phone)

    def ends_at(locator) -> float:
        locator.wait_for()
        box = locator.bounding_box()
        assert tab.page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop") == 0
        return box["y"] + box["height"]

    assert ends_at(tab.button("Generate Text")) < height
    assert ends_at(tab.button("Stop")) < height
    told_api.behaviour = Behaviour(stall_after_events=3)
    tab.button("Generate Text").click()
    assert ends_at(tab.page.get_by_text("Shall I compare")) < height
    assert ends_at(tab.page.get_by_text("30 of 200 characters")) < height
    tab.button("Stop").click()
    tab.sees("stopped ·")
    tab.idle()
    told_api.behaviour = Behaviour(refusal=Refusal(429, "rate_limited", 3))
    tab.button("Generate Text").click()
    assert ends_at(tab.page.get_by_text("Try again in")) < height
    tab.sees("You can generate again.")  # for who comes after
