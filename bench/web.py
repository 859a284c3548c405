"""`python -m bench.web`: what the web app weighs with ten people in it, and what a stream costs it.

Ten real browser tabs over one web process, in front of an API that writes 100 characters a second
in 20 events. Memory is the process's resident set; a stream's cost is the CPU time that the web
process used while it ran, less what it uses while the same tabs idle, as the median of the rounds.
Without Chromium it ends with one sentence.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
import structlog
from playwright.sync_api import Page, sync_playwright

from tests.support.browser import FLAGS, Tab, executable
from tests.support.fake_api import Behaviour, FakeApi
from tests.support.web_server import PeopledHome, WebServer, people

SESSIONS = 10
WATCHED_SECONDS = 10.0
MEGABYTE = 1 << 20
DAY = {"chars": 4000, "requests": 20, "refused": 1}
USED = {  # so that the page with the chart has one to draw, and loads what charts need
    "from": "2026-11-01",
    "to": "2026-11-30",
    "items": [{"day": f"2026-11-{day:02}", "name": "ci", **DAY} for day in range(1, 31)],
    "total": {name: 30 * value for name, value in DAY.items()},
}


def main() -> int:
    parser = argparse.ArgumentParser(description="What the web app weighs and a stream costs it.")
    parser.add_argument("--rounds", type=int, default=3)
    rounds: int = parser.parse_args().rounds
    # Setting up is logged too, and is not the point here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    api = FakeApi()
    api.answers["GET /v1/usage"] = USED
    with tempfile.TemporaryDirectory() as directory:
        home = people(Path(directory) / "home")
        server = WebServer(home.path, api.url)
        server.start()
        try:
            measure(server, home, api, rounds)
        finally:
            server.stop()
            home.close()
            api.close()
    return 0


def measure(server: WebServer, home: PeopledHome, api: FakeApi, rounds: int) -> None:
    if server.process is None:
        raise RuntimeError("the web app is not running")
    process = psutil.Process(server.process.pid)
    print(f"started, nobody there: {resident(process):.0f} MB")
    with sync_playwright() as driver:
        path = executable(driver.chromium.executable_path)
        with driver.chromium.launch(executable_path=path, args=FLAGS) as browser:
            context = browser.new_context()
            first = Tab(context, server.url)
            first.open()
            first.log_in(home.ada.name, home.ada.password)
            first.button("Generate Text").wait_for()
            first.until(first.session_cookie)
            visit_everything(first)
            print(f"one session, every page seen: {resident(process):.0f} MB")
            tabs = [first, *(Tab(context, server.url) for _ in range(SESSIONS - 1))]
            for tab in tabs[1:]:
                tab.open()
                tab.button("Generate Text").wait_for()
                visit_everything(tab)
            print(f"{SESSIONS} sessions: {resident(process):.0f} MB (to be under 250)")
            # Ten thousand characters last 100 s: longer than ten tabs need to begin.
            api.behaviour = Behaviour(chars_per_event=5, seconds_between_events=0.05)
            cost(process, tabs[:1])  # what is loaded at the first stream is not a stream's cost
            for streams in (1, SESSIONS):
                costs = [cost(process, tabs[:streams]) / streams for _ in range(rounds)]
                share = statistics.median(costs)
                print(f"{streams} at a time: {share:.1%} of a core for each (to be under 10 %)")
            print(f"{SESSIONS} sessions, after that: {resident(process):.0f} MB")


def visit_everything(tab: Tab) -> None:
    for page in ("Usage", "My API key", "Custom GPT Model"):
        tab.go_to(page)
        if page == "Usage":
            tab.sees("This month by key")
            tab.idle()


def cost(process: psutil.Process, tabs: list[Tab]) -> float:
    """Return the cores that these tabs' streams use beyond their idling."""
    idle = busy(process, tabs[0].page)
    for tab in tabs:
        tab.set("Number of characters", "10000", "spinbutton")
        tab.button("Generate Text").click()
        tab.page.get_by_text("a second").first.wait_for()
    streaming = busy(process, tabs[0].page)
    for tab in tabs:
        tab.button("Stop").click()
        tab.sees("stopped ·")
        tab.idle()
    return streaming - idle


def busy(process: psutil.Process, page: Page) -> float:
    """Return how many cores the process uses over a while."""
    used, started = sum(process.cpu_times()[:2]), time.monotonic()
    page.wait_for_timeout(WATCHED_SECONDS * 1000)
    return (sum(process.cpu_times()[:2]) - used) / (time.monotonic() - started)


def resident(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / MEGABYTE


if __name__ == "__main__":
    sys.exit(main())
