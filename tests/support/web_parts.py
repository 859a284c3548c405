"""The parts of a web process over users in memory, for tests that need no store and no browser."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import bcrypt
import pytest

from tests.support.fake_api import FakeApi
from web import services
from web.accounts import Account
from web.api_client import ApiClient, Timeouts
from web.config import WebSettings

PASSWORD = "correct horse battery staple"
QUICK_COST = 4  # the least that bcrypt allows


def password_hash(password: str = PASSWORD) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(QUICK_COST)).decode()


class MemoryUsers:
    """A user source that a test changes and breaks."""

    def __init__(self) -> None:
        self.key = f"qg_live_{secrets.token_hex(24)}"
        self.accounts: dict[str, Account] = {
            "ada": Account("ada", password_hash(), frozenset(), "acme"),
            "root": Account("root", password_hash(), frozenset({"admin"}), "acme"),
        }
        self.broken = False
        self.key_reads = 0
        self.kept: list[tuple[str, str]] = []

    def load(self) -> Mapping[str, Account]:
        if self.broken:
            raise OSError("the store is away")
        return dict(self.accounts)

    def key_of(self, username: str) -> str | None:
        if self.broken:
            raise OSError("the store is away")
        self.key_reads += 1
        return self.key if username in self.accounts else None

    def keep_key(self, username: str, key: str) -> None:
        if self.broken:
            raise OSError("the store is away")
        self.kept.append((username, key))
        self.key = key


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def users() -> MemoryUsers:
    """Return two people, `ada` and the admin `root`, who share one key."""
    return MemoryUsers()


@pytest.fixture
def web_settings(tmp_path: Path, fake_api: FakeApi) -> WebSettings:
    """Return settings of a home of the test's own and the API that does as it is told."""
    return WebSettings.from_env({"QUILLGATE_HOME": str(tmp_path), "GPT_API_URL": fake_api.url})


@pytest.fixture
def parts(users: MemoryUsers, web_settings: WebSettings) -> Iterator[services.Services]:
    """Yield the parts of a web process, installed for script runs, on short time-outs."""
    api = ApiClient(web_settings.api_url, Timeouts(2.0, 2.0, 1.0, 2.0))
    built = services.build(web_settings, users, tab_is_open=lambda _tab: True, api=api)
    services.install(built)
    yield built
    for run in list(built.runs._runs.values()):
        run.stop(0.0)
