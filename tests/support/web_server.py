"""`python -m web` as a process of its own, over a real store of users in a home of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext

from auth.admin import Admin
from auth.audit import Actor
from auth.config import AuthSettings
from auth.names import Names
from auth.stores import open_secrets, open_stores
from auth.users import UserStore, generate_password
from tests.support.browser import Tab
from tests.support.fake_api import FakeApi

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class WebServer:
    """One web process that a test may stop and start again."""

    home: Path
    api_url: str
    extra: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.home / "web.log"

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return kept | {
            "QUILLGATE_HOME": str(self.home),
            "GPT_API_URL": self.api_url,
            "PORT": str(self.port),
            **self.extra,
        }

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "web"],
                cwd=ROOT,
                env=self.environment(),
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._healthy():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the web app did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def stop(self, wait_seconds: float = 15.0) -> int:
        """Ask the process to end as a platform would, and return its exit status."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(wait_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/_stcore/health", timeout=2).status_code == 200
        except httpx.TransportError:
            return False


@dataclass(frozen=True)
class Person:
    """Someone who may log in, and the key that is forwarded for them."""

    name: str
    password: str
    key: str


@dataclass(frozen=True)
class PeopledHome:
    """A home whose store of users has people in it."""

    path: Path
    admin: Admin
    close: Callable[[], None]
    people: dict[str, Person] = field(default_factory=dict)

    @property
    def ada(self) -> Person:
        return self.people["ada"]

    @property
    def carol(self) -> Person:
        return self.people["carol"]

    @property
    def root(self) -> Person:
        return self.people["root"]

    def person(self, name: str, roles: Sequence[str] = ("user",)) -> Person:
        """Add somebody; a web app that runs already learns of them within a minute."""
        password = generate_password()
        added = self.admin.users.add(name, "acme", roles, password=password)
        key = UserStore(open_secrets(self.settings), Names(self.settings.prefix)).key_of(name)
        self.people[name] = Person(name, password, key or "")
        assert added["user"] == name
        return self.people[name]

    @property
    def settings(self) -> AuthSettings:
        return AuthSettings.from_env({"QUILLGATE_HOME": str(self.path)})


def people(home: Path) -> PeopledHome:
    """Return a home with `ada`, and `root` who is an admin, made by the admin's own operations."""
    stores = open_stores(AuthSettings.from_env({"QUILLGATE_HOME": str(home)}), None)
    admin = stores.admin(Actor("cli:test", "local"))
    admin.set_up()
    admin.tenants.add("acme", "standard")
    peopled = PeopledHome(home, admin, stores.close)
    peopled.person("ada")
    peopled.person("root", ["user", "admin"])
    return peopled


@pytest.fixture
def web_home(tmp_path: Path) -> Iterator[PeopledHome]:
    """Yield a peopled home that the test may break."""
    home = people(tmp_path / "home")
    yield home
    home.close()


@dataclass(frozen=True)
class WebWorld:
    """One running web app for a whole session, in front of an API that does as it is told."""

    home: PeopledHome
    api: FakeApi
    server: WebServer


@pytest.fixture(scope="session")
def web_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebWorld]:
    home, api = people(tmp_path_factory.mktemp("web") / "home"), FakeApi()
    home.person("carol")  # whose key tests may have refused: the web app remembers that for a while
    server = WebServer(home.path, api.url)
    server.start()
    yield WebWorld(home, api, server)
    server.stop()
    api.close()
    home.close()


@pytest.fixture
def web_server(web_world: WebWorld) -> WebServer:
    """Return the session's web app, running; a test may stop and start it."""
    if web_world.server.process is None:
        web_world.server.start()
    return web_world.server


@pytest.fixture
def told_api(web_world: WebWorld) -> FakeApi:
    """Return the API that it asks, which has forgotten what earlier tests told it."""
    web_world.api.reset()
    return web_world.api


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[Callable[..., Tab]]:
    """Yield a function that opens a browser window on a web app; each is somebody else's."""
    contexts: list[BrowserContext] = []

    def opened(url: str, **context: Any) -> Tab:
        contexts.append(browser.new_context(**context))
        tab = Tab(contexts[-1], url)
        tab.open()
        return tab

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def adas_tab(
    open_tab: Callable[..., Tab], web_world: WebWorld, web_server: WebServer, told_api: FakeApi
) -> Tab:
    """Return a window in which ada has just logged in, on the start page: a visit of its own."""
    ada = web_world.home.ada
    tab = open_tab(web_server.url)
    tab.log_in(ada.name, ada.password)
    tab.button("Generate Text").wait_for()
    tab.until(tab.session_cookie)
    tab.idle()
    return tab
