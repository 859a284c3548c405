"""A real Chromium for tests: the PATH's or Playwright's own; without one a test fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from deploy.provide import browser_on_path

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NONE_FOUND = (
    "No Chromium was found for the browser tests: install Debian's chromium package, or run "
    "`python -m playwright install chromium`."
)
NO_DRIVER = (
    "Playwright's driver does not start on this machine, so no browser test can run: "
    "install Debian's libatomic1 package."
)
TIMEOUT_MS = 30_000


def executable(playwrights_own: str) -> str:
    """Return a browser's path, or fail the test with one sentence."""
    if found := browser_on_path():
        return found
    if Path(playwrights_own).exists():
        return playwrights_own
    return pytest.fail(NONE_FOUND, pytrace=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield one browser for a file's tests, each with contexts of its own.

    Not for the session: while Playwright runs, this thread has a running event loop, and a later
    test that wants one of its own could not have it.
    """
    driver = sync_playwright()
    try:
        chromium = driver.start().chromium
    except Exception:  # noqa: BLE001 - what it raises when its own program cannot start
        pytest.fail(NO_DRIVER, pytrace=False)
    try:
        with chromium.launch(
            executable_path=executable(chromium.executable_path), args=FLAGS
        ) as started:
            yield started
    finally:
        driver.__exit__()


class Tab:
    """A browser window with a cookie jar of its own, and what went wrong in it."""

    def __init__(self, context: BrowserContext, base_url: str) -> None:
        context.set_default_timeout(TIMEOUT_MS)
        self.context = context
        self.page: Page = context.new_page()
        self.url = base_url
        self.complaints: list[str] = []
        self.requested: list[str] = []
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requested.append(request.url))

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} ({message.location.get('url')})")

    def open(self, path: str = "/") -> None:
        self.page.goto(self.url + path)
        self.idle()

    def idle(self) -> None:
        """Wait until the script has run."""
        self.page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()

    def button(self, name: str):
        return self.page.get_by_role("button", name=name)

    def field(self, name: str, role: str = "textbox"):
        return self.page.get_by_role(role, name=name)

    def log_in(self, username: str, password: str) -> None:
        self.field("Username").fill(username)
        self.field("Password").fill(password)
        self.button("Login").click()

    def set(self, name: str, value: str, role: str = "textbox") -> None:
        """Type into a field and let the page take it."""
        field = self.field(name, role)
        field.fill(value)
        field.press("Tab")
        self.idle()

    def shows(self, name: str, value: str, role: str = "textbox") -> None:
        """Wait until a field holds this: Streamlit paints each new field empty at first."""
        self.until(lambda: self.field(name, role).input_value() == value)

    def compare(self) -> None:
        """Unfold "More" and switch the comparison on."""
        self.page.get_by_text("More", exact=True).click()
        self.page.get_by_text("Compare two temperatures").click()
        self.field("Second temperature", "spinbutton").wait_for()
        self.idle()

    def text(self) -> str:
        """Return the text that is shown, the first if there are two."""
        return self.page.locator("[data-testid=stCode] code").first.text_content() or ""

    def go_to(self, page: str) -> None:
        """Follow the link to a page and wait until it is drawn."""
        self.page.get_by_role("link", name=page).click()
        self.page.get_by_role("heading", name=page).wait_for()
        self.idle()

    def picture(self, name: str) -> None:
        """Leave a picture of what is seen, where `make screens` wants one."""
        if folder := os.environ.get("SCREENS"):
            self.idle()
            self.page.wait_for_timeout(300)  # what slides or fades has come to rest
            self.page.screenshot(path=Path(folder) / f"{name}.png")

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds, here or elsewhere."""
        for _ in range(1500):
            if holds():
                return
            self.page.wait_for_timeout(20)
        raise AssertionError("it never came true")

    def sees(self, text: str) -> None:
        self.page.get_by_text(text).first.wait_for()

    def session_cookie(self) -> dict:
        """Return our cookie, {} if the browser has none."""
        found = [one for one in self.context.cookies() if one["name"].endswith("quillgate")]
        return dict(found[0]) if found else {}
