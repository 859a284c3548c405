"""What a page drew last is not lost to a part of it that draws itself at the same moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.runtime import Runtime, RuntimeConfig
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

from tests.support.waiting import wait_until
from web import streamlit_runs

PAGE = """
import streamlit as st
from web.redrawn import redrawn

@{decorator}
def part():
    st.text("part")

part()
for number in range(20):
    st.text(f"line {{number}}")
"""
OURS, STREAMLITS = "redrawn(every=60)", "st.fragment(run_every=60)"


class Browser:
    """What reaches a tab."""

    client_context = None

    def __init__(self):
        self.part = ""
        self.forget()

    def forget(self):
        self.texts, self.finished = [], 0
        self.drawn = set()  # the places of what came before the first run's end, as paths

    def write_forward_msg(self, message):
        kind = message.WhichOneof("type")
        if kind == "auto_rerun":
            self.part = message.auto_rerun.fragment_id
        elif kind == "script_finished":
            self.finished += 1
        elif kind == "delta":
            if not self.finished:
                self.drawn.add(tuple(message.metadata.delta_path))
            if message.delta.new_element.WhichOneof("type") == "text":
                self.texts.append(message.delta.new_element.text.body)


async def _until(holds):
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # what Streamlit does sets no event
            await asyncio.sleep(0.01)


def _again(part="", *, timer=False):
    message = BackMsg()
    message.rerun_script.fragment_id = part
    message.rerun_script.is_auto_rerun = timer
    return message


async def _collide(page, *, ended, timer):
    """Ask for a part of the page while it is drawn, or when it has just been; nobody saw it yet."""
    runtime = Runtime(
        RuntimeConfig(
            script_path=str(page),
            media_file_storage=MemoryMediaFileStorage("/media"),
            uploaded_file_manager=MemoryUploadedFileManager("/upload"),
        )
    )
    await runtime.start()
    browser = Browser()
    try:
        tab = runtime.connect_session(browser, {})
        session = runtime.get_app_session(tab)

        def at_rest():
            return session._scriptrunner is None and not len(session._browser_queue)

        runtime.handle_backmsg(tab, _again())
        await _until(lambda: at_rest() and browser.finished)
        browser.forget()
        runtime.handle_backmsg(tab, _again())
        drawing = session._scriptrunner._script_thread
        if ended:
            wait_until(lambda: not drawing.is_alive())  # and the loop stands still meanwhile
        runtime.handle_backmsg(tab, _again(browser.part, timer=timer))
        wait_until(lambda: not drawing.is_alive())
        await _until(lambda: at_rest() and browser.finished)
        await asyncio.sleep(4 * streamlit_runs.AGAIN_SECONDS)
        await _until(at_rest)
    finally:
        runtime.stop()
        await runtime.stopped
        Runtime._instance = None
    return browser


@pytest.fixture
def collide(tmp_path):
    def collided(decorator, *, ended, timer=True):
        page = tmp_path / "page.py"
        page.write_text(PAGE.format(decorator=decorator))
        return asyncio.run(_collide(page, ended=ended, timer=timer))

    return collided


@pytest.fixture
def in_turn(monkeypatch):
    monkeypatch.setattr(AppSession, "request_rerun", AppSession.request_rerun)
    streamlit_runs.lose_nothing()


LINES = [f"line {number}" for number in range(20)]


def test_a_timer_that_asks_just_after_the_page_takes_nothing_from_it(collide, in_turn):
    """Every line that was drawn arrives, and the end of the run; the timer will ask again."""
    browser = collide(OURS, ended=True)
    assert browser.texts == ["part", *LINES]
    assert browser.finished == 1


def test_a_click_in_a_part_just_after_the_page_waits_for_its_turn(collide, in_turn):
    """Every line arrives, then the part once more, unless what the page drew of it was unsent."""
    browser = collide(OURS, ended=True, timer=False)
    assert browser.texts in (["part", *LINES, "part"], [*LINES, "part"])
    assert browser.finished == 2


def test_without_its_turn_a_part_takes_the_page(collide, monkeypatch):
    """The day on which Streamlit itself waits, `web.streamlit_runs` may go."""
    monkeypatch.setattr(AppSession, "request_rerun", streamlit_runs._request_rerun)
    assert collide(OURS, ended=True).texts == ["part"]


@pytest.mark.parametrize(("decorator", "kept"), [(OURS, True), (STREAMLITS, False)])
def test_a_part_that_asks_while_the_page_is_drawn_keeps_its_place(
    collide, in_turn, decorator, kept
):
    """What the page's own run drew of the part is not sent, its container is: without one the
    browser would move up what stands below, and the part would cover it."""
    browser = collide(decorator, ended=False)
    assert browser.texts == [*LINES, "part"]
    below = (0, 1)
    assert below in browser.drawn
    assert ((0, 0) in browser.drawn) is kept


def test_no_page_has_a_part_without_a_place_of_its_own():
    """Each one that draws itself is decorated with `redrawn`."""
    web = Path(streamlit_runs.__file__).parent
    using = [path.name for path in web.rglob("*.py") if "st.fragment" in path.read_text()]
    assert using == ["redrawn.py"]
