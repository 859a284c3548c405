"""What a person was at survives a reload, a lost server and an unsent keystroke; not a logout."""

from __future__ import annotations

import pytest

from tests.support.fake_api import Behaviour

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine


def _fields(tab) -> tuple[str, ...]:
    return (
        tab.field("Prompt").input_value(),
        tab.field("Seed").input_value(),
        tab.field("Temperature", "spinbutton").input_value(),
        tab.field("Number of characters", "spinbutton").input_value(),
    )


def _shows(tab, fields: tuple[str, ...]) -> None:
    """Wait until these stand in the fields: Streamlit paints each new field empty at first."""
    tab.until(lambda: _fields(tab) == fields)


def _open(tab) -> None:
    tab.button("Generate Text").wait_for()
    tab.idle()


def _reload(tab) -> None:
    tab.page.reload()
    _open(tab)


def test_a_reload_keeps_form_and_texts(adas_tab, told_api):
    """Typed, rolled and chosen values, the text that is shown, and those before it; Continue goes
    on from it."""
    tab = adas_tab
    tab.set("Prompt", "KING:\nSpeak")
    tab.button("Roll").click()
    tab.page.get_by_role("radio", name="Bold").click()
    tab.shows("Temperature", "1.20", "spinbutton")
    tab.set("Number of characters", "60", "spinbutton")
    tab.button("Generate Text").click()
    tab.sees("finished · 60 of 60 characters")
    tab.idle()
    stood, text = _fields(tab), tab.text()
    assert stood[1]
    _reload(tab)
    _shows(tab, stood)
    tab.until(lambda: tab.text() == text)
    tab.page.get_by_text("Texts of this visit").wait_for()
    tab.button("Continue").click()
    tab.until(lambda: len(tab.text()) == 120)
    assert told_api.generations()[1].body["prompt"].startswith("KING:\nSpeak")
    assert tab.complaints == []


def test_a_reload_of_a_comparison_shows_both_temperatures(adas_tab):
    """They are under "More", which a new tab shows folded where there is nothing of note in it."""
    _reload(adas_tab)
    second = adas_tab.field("Second temperature", "spinbutton")
    assert not adas_tab.page.get_by_text("Compare two temperatures").is_visible()
    adas_tab.compare()
    _reload(adas_tab)
    second.wait_for()


def test_a_reload_does_not_end_what_is_being_written(adas_tab, told_api):
    """The page that was loaded anew shows the text as it comes, to its end."""
    told_api.behaviour = Behaviour(seconds_between_events=0.5)
    adas_tab.button("Generate Text").click()
    adas_tab.sees("30 of 200 characters")
    _reload(adas_tab)
    adas_tab.sees("finished · 200 of 200 characters")
    assert told_api.disconnects == 0


def test_what_was_typed_last_is_there_after_a_reload(adas_tab):
    """Although it had not been sent: the cursor was in the field still."""
    adas_tab.set("Prompt", "committed")
    adas_tab.field("Prompt").press_sequentially(", and not")
    adas_tab.page.keyboard.press("F5")
    adas_tab.until(lambda: adas_tab.field("Prompt").count() == 1)
    _open(adas_tab)
    adas_tab.shows("Prompt", "committed, and not")


def test_a_restart_of_the_web_process_keeps_the_login_the_form_and_the_texts(
    web_server, web_world, told_api, open_tab
):
    """In the tab that was open, whose first click generates with what stands there, and after a
    reload. A logout forgets all of it."""
    ada = web_world.home.ada
    tab = open_tab(web_server.url)
    tab.log_in(ada.name, ada.password)
    _open(tab)
    tab.until(tab.session_cookie)
    tab.set("Prompt", "before the restart")
    tab.button("Roll").click()
    tab.until(lambda: tab.field("Seed").input_value())
    tab.button("Generate Text").click()
    tab.sees("finished ·")
    tab.idle()
    stood = _fields(tab)
    tab.field("Prompt").fill("typed last")  # and not sent
    web_server.stop()
    web_server.start()
    connected = "[data-testid=stApp][data-test-connection-state=CONNECTED]"
    tab.page.locator(connected).wait_for()
    tab.idle()
    tab.button("Generate Text").click()
    tab.until(lambda: len(told_api.generations()) == 2)
    first, second = (asked.body for asked in told_api.generations())
    assert second == {**first, "prompt": "typed last"}
    tab.until(lambda: tab.page.get_by_text("finished ·").count())
    tab.idle()
    _shows(tab, ("typed last", *stood[1:]))
    web_server.stop()
    web_server.start()
    tab.page.locator(connected).wait_for()
    _shows(tab, ("typed last", *stood[1:]))
    _reload(tab)
    _shows(tab, ("typed last", *stood[1:]))
    assert "Shall I compare" in tab.text()
    tab.page.get_by_text("Texts of this visit").wait_for()
    tab.button("Logout").click()
    tab.field("Username").wait_for()
    tab.until(lambda: not tab.session_cookie())
    tab.log_in(ada.name, ada.password)
    _open(tab)
    tab.shows("Temperature", "0.80", "spinbutton")  # so what stands in the others has come too
    assert _fields(tab) == ("", "", "0.80", "200")
    assert not tab.page.get_by_text("Texts of this visit").count()


def test_where_nothing_is_kept_an_open_tab_still_has_the_prompt_that_was_typed(
    web_server, web_world, told_api, open_tab
):
    """As on a machine whose disk is new after each restart."""
    ada = web_world.home.ada
    tab = open_tab(web_server.url)
    tab.log_in(ada.name, ada.password)
    _open(tab)
    tab.until(tab.session_cookie)
    tab.set("Prompt", "typed")
    web_server.stop()
    for kept in (web_server.home / "web-visits").iterdir():
        kept.unlink()
    web_server.start()
    tab.page.locator("[data-testid=stApp][data-test-connection-state=CONNECTED]").wait_for()
    tab.idle()
    tab.button("Generate Text").click()
    tab.sees("finished ·")
    assert [asked.body["prompt"] for asked in told_api.generations()] == ["typed"]
    tab.shows("Prompt", "typed")


def test_what_folds_opens_at_once_and_never_flickers(adas_tab):
    """No click is lost on what moves: from the click on, each frame shows the whole fold."""
    heights = adas_tab.page.evaluate(
        """() => new Promise((done) => {
            const fold = document.querySelector("[data-testid=stExpander] details");
            fold.querySelector("summary").click();
            const seen = [];
            const look = () => {
                seen.push(Math.round(fold.getBoundingClientRect().height));
                seen.length < 90 ? requestAnimationFrame(look) : done(seen);
            };
            setTimeout(look, 30);
        })"""
    )
    assert heights[0] > 100
    assert set(heights) == {heights[0]}
    adas_tab.page.get_by_text("More", exact=True).click()
    adas_tab.page.get_by_text("Compare two temperatures").wait_for(state="hidden", timeout=300)
    adas_tab.compare()
