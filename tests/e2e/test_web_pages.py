"""The web app in a real browser, in front of an API that does as it is told."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.support.fake_api import Behaviour, Refusal
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine


@pytest.fixture
def web_home(web_world):
    return web_world.home


def _logged_in(open_tab, server, person, **context):
    tab = open_tab(server.url, **context)
    tab.log_in(person.name, person.password)
    tab.button("Generate Text").wait_for()
    tab.idle()
    return tab


def test_the_session_cookie_is_out_of_reach_and_survives_a_reload(web_server, web_home, open_tab):
    """HttpOnly, SameSite=Strict, eight hours; scripts see nothing of it; a reload stays in."""
    tab = _logged_in(open_tab, web_server, web_home.ada)
    wait_until(tab.session_cookie)
    cookie = tab.session_cookie()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    heading = tab.page.get_by_role("heading").first
    place = heading.bounding_box()
    assert "quillgate" not in tab.page.evaluate("document.cookie")
    tab.page.reload()
    tab.button("Generate Text").wait_for()
    tab.idle()
    assert heading.bounding_box() == place  # what fetched the cookie took no room
    assert tab.complaints == []


def test_a_copied_cookie_is_dead_after_logout_and_after_a_restart(web_server, web_home, open_tab):
    """Replaying it shows the login form."""
    tab = _logged_in(open_tab, web_server, web_home.ada)
    wait_until(tab.session_cookie)
    copied = tab.session_cookie()

    def replayed():
        thief = open_tab(web_server.url)
        thief.context.add_cookies([copied])
        thief.open()
        return thief

    replayed().button("Generate Text").wait_for()  # a copy works while the login lasts
    tab.button("Logout").click()
    tab.field("Username").wait_for()
    wait_until(lambda: not tab.session_cookie())
    replayed().field("Username").wait_for()
    web_server.stop()
    web_server.start()
    replayed().field("Username").wait_for()


def test_logout_in_one_tab_ends_the_other(web_server, web_home, open_tab):
    """A second tab shows the form by itself, within seconds."""
    tab = _logged_in(open_tab, web_server, web_home.ada)
    wait_until(tab.session_cookie)
    second = tab.context.new_page()
    second.goto(web_server.url)
    second.get_by_role("button", name="Generate Text").wait_for()
    tab.button("Logout").click()
    tab.field("Username").wait_for()
    second.get_by_role("textbox", name="Username").wait_for()


def test_text_of_the_model_is_shown_as_it_is(told_api, adas_tab):
    """Markdown, HTML and pictures in it stay characters, and the browser fetches nothing."""
    text = (
        '# <b>x</b> ![a](http://127.0.0.1:9/p.png) <img src="http://127.0.0.1:9/q"> $m$ :red[y]\n'
    )
    told_api.behaviour = Behaviour(text="\n  " + text)
    chars = adas_tab.field("Number of characters", "spinbutton")
    chars.fill(str(len(text) + 3))
    chars.press("Tab")
    adas_tab.idle()
    adas_tab.button("Generate Text").click()
    adas_tab.sees("finished ·")
    assert adas_tab.page.locator("[data-testid=stCode] code").first.text_content() == "\n  " + text
    assert not [url for url in adas_tab.requested if ":9/" in url]


def _downloaded(tab, name):
    """Click a download button and return the file's name and what is in it."""
    with tab.page.expect_download() as download:
        tab.button(name).click()
    return download.value.suggested_filename, download.value.path().read_text(encoding="utf-8")


def test_what_was_written_is_downloaded_as_it_is(told_api, adas_tab):
    """As .txt the text and nothing else, as .json with all that it takes to get it again."""
    text = 'Once «ünder» 🪶 שלום\r\n"quoted", # $x$\n'
    told_api.behaviour = Behaviour(text=text)
    adas_tab.set("Seed", "7")
    adas_tab.set("Number of characters", str(len(text)), "spinbutton")
    adas_tab.button("Generate Text").click()
    adas_tab.sees("finished ·")
    adas_tab.idle()
    with adas_tab.page.expect_download() as download:
        adas_tab.button(".txt").click()
    assert download.value.suggested_filename == "quillgate-7.txt"
    assert download.value.path().read_bytes() == text.encode()
    name, written = _downloaded(adas_tab, ".json")
    assert name == "quillgate-7.json"
    assert json.loads(written) == {
        "seed": 7,
        "temperature": 0.8,
        "num_chars": len(text),
        "model": "demo",
        "continued_from": None,
        "text": text,
        "finish_reason": "length",
    }


def test_the_days_are_downloaded_as_csv(told_api, adas_tab):
    """A line for each day, as the API counted."""
    told_api.answers["GET /v1/usage"] = {
        "from": "2026-11-01",
        "to": "2026-11-03",
        "items": [{"day": "2026-11-02", "name": "ci", "chars": 40, "requests": 2, "refused": 1}],
        "total": {"chars": 40, "requests": 2, "refused": 1},
    }
    adas_tab.go_to("Usage")
    name, written = _downloaded(adas_tab, "Days as CSV")
    assert name == "usage-2026-11-03.csv"
    assert written.splitlines() == [
        "day,chars,requests,refused",
        "2026-11-01,0,0,0",
        "2026-11-02,40,2,1",
        "2026-11-03,0,0,0",
    ]


def test_stop_keeps_the_text_even_when_the_api_is_silent(told_api, adas_tab):
    """The page answers at once and the API sees the disconnect."""
    told_api.behaviour = Behaviour(stall_after_events=3)
    adas_tab.button("Generate Text").click()
    adas_tab.sees("Shall I compare")
    adas_tab.idle()
    adas_tab.button("Stop").click()
    adas_tab.sees("stopped · 30 of 200 characters")
    assert (
        adas_tab.page.locator("[data-testid=stCode] code").first.text_content()
        == told_api.behaviour.text[:30]
    )
    wait_until(lambda: told_api.disconnects == 1)


def test_closing_the_tab_ends_the_generation(told_api, adas_tab):
    """Nobody pays for text that nobody reads."""
    told_api.behaviour = Behaviour(stall_after_events=1)
    adas_tab.button("Generate Text").click()
    adas_tab.sees("Shall I")
    adas_tab.page.close()
    wait_until(lambda: told_api.disconnects == 1)


def test_a_generation_goes_on_while_one_looks_at_another_page(told_api, adas_tab):
    """Coming back shows all of it."""
    told_api.behaviour = Behaviour(seconds_between_events=0.1)
    adas_tab.button("Generate Text").click()
    adas_tab.sees("Shall I")
    adas_tab.page.get_by_role("link", name="My API key").click()
    adas_tab.sees("It stays on the server")
    wait_until(lambda: told_api.finished == 1)
    adas_tab.page.get_by_role("link", name="Custom GPT Model").click()
    adas_tab.sees("finished · 200 of 200 characters")


def test_a_429_counts_down_and_opens_again_by_itself(told_api, adas_tab):
    """Generate Text is disabled exactly as long as the API said."""
    told_api.behaviour = Behaviour(refusal=Refusal(429, "rate_limited", 3))
    adas_tab.button("Generate Text").click()
    adas_tab.sees("Your plan's rate is used up for the moment. Try again in 3 s.")
    adas_tab.picture("429-light")
    assert adas_tab.button("Generate Text").is_disabled()
    adas_tab.sees("Try again in 1 s.")
    told_api.behaviour = Behaviour()
    adas_tab.sees("You can generate again.")
    adas_tab.button("Generate Text").click()
    adas_tab.sees("finished ·")
    assert len(told_api.generations()) == 2


def test_the_keyboard_generates_and_stops(told_api, adas_tab):
    """Ctrl+Enter in the prompt sends what was just typed; Esc stops."""
    told_api.behaviour = Behaviour(stall_after_events=2)
    adas_tab.field("Prompt").fill("To be")
    adas_tab.field("Prompt").press("Control+Enter")
    adas_tab.sees("Shall I compare")
    assert told_api.generations()[0].body["prompt"] == "To be"
    adas_tab.idle()
    adas_tab.page.keyboard.press("Escape")
    adas_tab.sees("stopped ·")


def _lost(tab):
    return tab.page.evaluate(
        "getComputedStyle(document.querySelector('[data-testid=stApp]'), '::after').content"
    )


def test_after_a_restart_the_first_click_works(web_server, web_home, told_api, open_tab):
    """A tab that was open says that it lost its server, stays logged in and generates."""
    tab = _logged_in(open_tab, web_server, web_home.ada)
    wait_until(tab.session_cookie)
    assert _lost(tab) == "none"
    web_server.stop()
    tab.until(lambda: "Connection lost" in _lost(tab))
    web_server.start()
    tab.until(lambda: _lost(tab) == "none")  # the tab reconnects by itself
    tab.idle()
    tab.button("Generate Text").click()
    tab.sees("finished ·")
    assert len(told_api.generations()) == 1


def test_a_page_that_was_asked_for_is_reached_through_the_login(web_server, web_home, open_tab):
    """A link to a page leads there, and what is no page leads to the start."""
    tab = open_tab(web_server.url)
    tab.open("/key")
    tab.log_in(web_home.ada.name, web_home.ada.password)
    tab.sees("It stays on the server")


def test_the_key_is_nowhere_a_browser_or_a_log_could_show_it(
    web_server, web_home, told_api, open_tab, tmp_path
):
    """Not in cookies, storage, page, URL, traffic, logs, or files beside its own secret."""
    received: list[bytes] = []
    tab = open_tab(web_server.url)
    responses = []

    def keep_frame(frame):
        received.append(frame)

    def keep_response(response):
        responses.append(response)

    tab.page.on("websocket", lambda socket: socket.on("framereceived", keep_frame))
    tab.page.on("response", keep_response)
    tab.open()
    tab.log_in(web_home.carol.name, web_home.carol.password)
    tab.button("Generate Text").wait_for()
    tab.button("Test Connection").click()
    tab.sees("Key accepted")
    tab.button("Generate Text").click()
    tab.sees("finished ·")
    told_api.accepted_keys = set()
    tab.button("Generate Text").click()
    tab.sees("Your API key was refused")
    pages = [tab.page.content()]
    for name in ("Usage", "My API key"):
        tab.page.get_by_role("link", name=name).click()
        tab.page.get_by_role("heading", name=name).wait_for()
        tab.idle()
        pages.append(tab.page.content())
    storage = tab.page.evaluate("JSON.stringify([localStorage, sessionStorage])")
    frames = b"".join(f if isinstance(f, bytes) else f.encode() for f in received)
    seen = {
        "pages": "".join(pages).encode(),
        "cookies": json.dumps(tab.context.cookies()).encode(),
        "storage": storage.encode(),
        "urls": "".join([*tab.requested, tab.page.url]).encode(),
        "websocket": frames,
        "responses": b"".join(_body(response) for response in responses),
        "log": web_server.log.read_bytes(),
    }
    assert len(received) > 5
    assert b"Shall I compare" in frames
    secret = web_home.carol.key.split("_")[3].encode()
    assert [where for where, text in seen.items() if secret in text] == []
    holding = [
        path.relative_to(web_home.path).parts[:2]
        for path in web_home.path.rglob("*")
        if path.is_file() and secret in path.read_bytes()
    ]
    assert holding == [("secrets", "quillgate-webkey-carol")]


def _body(response):
    try:
        return response.body()
    except Exception:  # noqa: BLE001  # a redirect or an aborted answer has none
        return b""


def test_every_page_keeps_the_content_security_policy(web_server, web_home, told_api, open_tab):
    """Not one violation or script error, in light and dark, on any page."""
    for scheme in ("light", "dark"):
        tab = _logged_in(open_tab, web_server, web_home.ada, color_scheme=scheme)
        tab.button("Test Connection").click()
        tab.sees("Key accepted")
        tab.button("Generate Text").click()
        tab.sees("finished ·")
        for name in ("Usage", "My API key"):
            tab.page.get_by_role("link", name=name).click()
            tab.page.get_by_role("heading", name=name).wait_for()
            tab.idle()
        tab.button("Logout").click()
        tab.field("Username").wait_for()
        assert tab.complaints == []
        assert {url.split("/")[2] for url in tab.requested if url.startswith("http")} == {
            web_server.url.split("/")[2]
        }


@pytest.mark.parametrize("path", ["/_stcore/metrics", "/_stcore/agent/openapi.json"])
def test_strangers_get_nothing_from_streamlit(web_server, path):
    """Metrics and remote control are closed on the running server."""
    answer = httpx.get(web_server.url + path)
    assert answer.status_code == 404
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "Server" not in answer.headers
