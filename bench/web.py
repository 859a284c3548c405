"""`python -m bench.web`: what the web app weighs with ten people in it, and what a stream costs it.

Ten real browser tabs over one web process, in front of an API that writes 100 characters a second
in 20 events, as the real one does. Memory is the process's resident set. A stream's cost is the CPU
time that the web process uses while the streams run, less what it uses while the same tabs idle, by
the number of streams; the median of rounds that take turns. Every wait is bounded; without Chromium
it ends with one sentence.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import structlog
from playwright.sync_api import sync_playwright

from bench import machine, web_report
from tests.support.browser import FLAGS, Tab, executable
from tests.support.fake_api import Behaviour, FakeApi
from tests.support.web_server import PeopledHome, WebServer, people

SESSIONS = 10
WATCHED_SECONDS = 10.0
WAIT_SECONDS = 240.0  # for ten tabs to begin or to stop, on a machine that does other things too
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    arguments = parser.parse_args()
    machine.ask_for_priority()
    # Setting up is logged too, and is not the point here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    api = FakeApi()
    api.answers["GET /v1/usage"] = USED
    with tempfile.TemporaryDirectory() as directory:
        home = people(Path(directory) / "home")
        server = WebServer(home.path, api.url)
        server.start()
        try:
            result = measure(server, home, api, arguments.rounds)
        finally:
            server.stop()
            home.close()
            api.close()
    result["machine"] = machine.described()
    web_report.written(result, arguments.out)
    return 0


def measure(server: WebServer, home: PeopledHome, api: FakeApi, rounds: int) -> dict[str, Any]:
    if server.process is None:
        raise RuntimeError("the web app is not running")
    process = psutil.Process(server.process.pid)
    weights = {"started, nobody there": resident(process)}
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
            weights["one session, every page seen"] = resident(process)
            tabs = [first, *(Tab(context, server.url) for _ in range(SESSIONS - 1))]
            for tab in tabs[1:]:
                tab.open()
                tab.button("Generate Text").wait_for()
                visit_everything(tab)
            weights[f"{SESSIONS} sessions, every page seen"] = resident(process)
            for tab in tabs:  # 100 s of text: longer than all of them stream
                tab.set("Number of characters", "10000", "spinbutton")
            api.behaviour = Behaviour(chars_per_event=5, seconds_between_events=0.05)
            cost(process, tabs, api)  # what is loaded at the first stream is not a stream's cost
            costs: dict[int, list[float]] = {1: [], SESSIONS: []}
            for number in range(1, rounds + 1):
                for streams, found in costs.items():
                    found.append(cost(process, tabs[:streams], api) / streams)
                    said = f"round {number} of {rounds}, {streams} at a time: {found[-1]:.1%}"
                    print(f"{said} of a core for each", flush=True)
            weights[f"{SESSIONS} sessions, after {SESSIONS} streams at a time"] = resident(process)
    return {
        "memory_mb": {name: round(weight, 1) for name, weight in weights.items()},
        "cores_per_stream": {
            str(streams): {
                "median": round(statistics.median(found), 4),
                "rounds": [round(one, 4) for one in found],
            }
            for streams, found in costs.items()
        },
    }


def visit_everything(tab: Tab) -> None:
    for page in ("Usage", "My API key", "Custom GPT Model"):
        tab.go_to(page)
        if page == "Usage":
            tab.sees("This month by key")
            tab.idle()


def cost(process: psutil.Process, tabs: list[Tab], api: FakeApi) -> float:
    """Return the cores that these tabs' streams use beyond their idling.

    Buttons are pressed by script: a browser that draws ten streams on two cores takes seconds to
    move a mouse onto one.
    """
    idle = busy(process)
    before, ended = len(api.generations()), api.disconnects
    for tab in tabs:
        tab.button("Generate Text").dispatch_event("click")
    wait_until(lambda: len(api.generations()) == before + len(tabs), tabs[0])
    streaming = busy(process)
    for tab in tabs:
        tab.button("Stop").dispatch_event("click")
    wait_until(lambda: api.disconnects == ended + len(tabs), tabs[0])
    for tab in tabs:
        tab.page.locator("button:not([disabled])", has_text="Generate Text").wait_for()
        tab.idle()
    return streaming - idle


def wait_until(holds: Callable[[], bool], tab: Tab) -> None:
    """Wait while the browser goes on. Raise RuntimeError where it never comes true."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the tabs took longer than {WAIT_SECONDS:.0f} s")
        tab.page.wait_for_timeout(50)


def busy(process: psutil.Process) -> float:
    """Return how many cores the process uses over a while, in which the browser goes on."""
    used, started = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(WATCHED_SECONDS)  # Playwright has nothing to do meanwhile: nobody clicks
    return (sum(process.cpu_times()[:2]) - used) / (time.monotonic() - started)


def resident(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / MEGABYTE


if __name__ == "__main__":
    sys.exit(main())
