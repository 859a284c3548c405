"""What people do to a page that was made for others: long pastes, the back button, bad moments."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.fake_api import Behaviour

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine


def test_a_prompt_that_is_too_long_stays_in_its_field_and_is_told(told_api, adas_tab):
    """A long paste is not dropped in silence: it can be shortened where it stands. What counts are
    characters as people see them, also those that a computer counts double."""
    adas_tab.field("Prompt").click()
    adas_tab.page.keyboard.insert_text("x" * 1_100_000)  # more than fits into a message
    adas_tab.button("Generate Text").click()
    adas_tab.sees("At most 4,000 characters; these are 100,000.")
    adas_tab.set("Prompt", "🪶" * 4001)
    adas_tab.button("Generate Text").click()
    adas_tab.sees("At most 4,000 characters; these are 4,001.")
    assert told_api.generations() == []
    prompt = "שלום 🪶\n" * 571 + "end"
    assert len(prompt) == 4000
    adas_tab.set("Prompt", prompt)
    adas_tab.button("Generate Text").click()
    adas_tab.sees("finished ·")
    assert told_api.generations()[0].body["prompt"] == prompt
    assert int(_header(told_api.generations()[0].head, "Content-Length")) < 16_384


def _header(head: str, name: str) -> str:
    return next(line for line in head.splitlines() if line.startswith(name)).split(": ")[1]


def test_an_api_that_goes_away_in_mid_text_leaves_the_text(told_api, adas_tab):
    """What came is kept and can be gone on from, once the API is back."""
    told_api.behaviour = Behaviour(break_after_events=3)
    adas_tab.button("Generate Text").click()
    adas_tab.sees("The connection to the API broke off. What came until then is kept; try again.")
    adas_tab.idle()
    came = adas_tab.text()
    assert came == told_api.behaviour.text[:30]
    told_api.behaviour = Behaviour()
    adas_tab.button("Continue").click()
    adas_tab.sees("finished ·")
    assert adas_tab.text().startswith(came)
    assert told_api.generations()[-1].body["prompt"] == came


def test_back_and_forth_between_pages_keeps_text_and_form(told_api, adas_tab):
    """The browser's own buttons lead where the links do; nothing is lost on the way."""
    adas_tab.set("Prompt", "Once")
    adas_tab.button("Generate Text").click()
    adas_tab.sees("finished ·")
    adas_tab.idle()
    text = adas_tab.text()
    adas_tab.go_to("My API key")
    adas_tab.page.go_back()
    adas_tab.sees("finished ·")
    adas_tab.shows("Prompt", "Once")
    assert adas_tab.text() == text
    adas_tab.page.go_forward()
    adas_tab.page.get_by_role("heading", name="My API key").wait_for()
    assert adas_tab.complaints == []


def test_a_new_key_is_not_lost_to_a_click_elsewhere(told_api, adas_tab):
    """Whoever goes on before the answer sees the key on the page where they are, until they put it
    away, and after a reload too: in sight wherever they scroll to, with its button in reach where a
    phone's keyboard leaves little room."""
    key = f"qg_live_{'n' * 12}_made-up"
    told_api.answers["POST /v1/key/rotate"] = {"key": key, "forwarded_for": ["ada"]}
    told_api.answering.clear()
    adas_tab.go_to("My API key")
    adas_tab.page.get_by_text("I know where else this key is used").click()
    adas_tab.idle()
    adas_tab.button("Rotate").click()
    adas_tab.until(lambda: any(call.path == "/v1/key/rotate" for call in told_api.calls))
    adas_tab.go_to("Usage")
    assert key not in adas_tab.page.content()
    told_api.answering.set()
    adas_tab.sees("Your key has a new secret.")
    assert adas_tab.text().strip() == key
    adas_tab.idle()
    adas_tab.go_to("Custom GPT Model")
    adas_tab.page.reload()
    adas_tab.sees("Your key has a new secret.")
    assert adas_tab.text().strip() == key
    adas_tab.page.set_viewport_size({"width": 360, "height": 640})
    adas_tab.page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, main.scrollHeight)")
    expect(adas_tab.button("Done")).to_be_in_viewport(ratio=1)
    adas_tab.page.set_viewport_size({"width": 360, "height": 260})
    adas_tab.button("Done").click()
    adas_tab.page.locator("[data-testid=stCode]").wait_for(state="hidden")
    assert key not in adas_tab.page.content()
    assert adas_tab.complaints == []
