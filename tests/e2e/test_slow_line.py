"""The generation page over a slow line, where one goes on before the page has answered."""

from __future__ import annotations

import pytest

from tests.support.browser import Tab
from tests.support.slow_line import SlowLine

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine


@pytest.fixture
def line(adas_tab):
    laid = SlowLine(adas_tab.context)
    adas_tab.open()
    adas_tab.button("Generate Text").wait_for()
    adas_tab.idle()
    return laid


@pytest.fixture
def slow_tab(line, adas_tab):
    """Return a tab whose answers are held back from now on."""
    line.hold()
    return adas_tab


def _type(tab: Tab, field: str, value: str, role: str = "textbox") -> None:
    tab.field(field, role).fill(value)
    tab.field(field, role).press("Tab")


def _generated(tab: Tab, line: SlowLine, api) -> dict:
    """Press Generate Text, let the page hear at last, and return what the API was asked for."""
    tab.button("Generate Text").click()
    tab.until(api.generations)
    line.release()
    tab.sees("finished ·")
    return api.generations()[0].body


def test_a_seed_that_is_typed_is_used_whatever_is_typed_next(slow_tab, line, told_api):
    """Nothing that the page does about it can be undone by the next entry."""
    _type(slow_tab, "Seed", "42")
    _type(slow_tab, "Number of characters", "60", "spinbutton")
    _type(slow_tab, "Prompt", "Once")
    body = _generated(slow_tab, line, told_api)
    assert (body["seed"], body["num_chars"], body["prompt"]) == (42, 60, "Once")
    slow_tab.shows("Seed", "42")


def test_a_preset_is_used_whatever_is_typed_next(slow_tab, line, told_api):
    """What it put into the fields stands, though the browser still sends what stood there."""
    slow_tab.page.get_by_role("radio", name="Bold").click()
    _type(slow_tab, "Number of characters", "60", "spinbutton")
    body = _generated(slow_tab, line, told_api)
    assert (body["temperature"], body["top_p"], body["num_chars"]) == (1.2, 0.95, 60)
    slow_tab.shows("Temperature", "1.20", "spinbutton")


def test_a_seed_that_was_rolled_is_used_whatever_is_typed_next(slow_tab, line, told_api):
    """And it is the one that the page shows in the end."""
    slow_tab.button("Roll").click()
    _type(slow_tab, "Prompt", "Once")
    body = _generated(slow_tab, line, told_api)
    slow_tab.shows("Seed", str(body["seed"]))
