"""One real service for the session: real keys, its own Redis under its home, a real tiny model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from auth.admin import Admin
from auth.audit import Actor
from auth.config import AuthSettings
from auth.embedded_redis import ensure
from auth.propagation import ADMIN_TIMEOUT_SECONDS
from auth.stores import open_stores
from tests.support.api_server import ApiServer

ALL_SCOPES = ("generate", "usage:read", "key:rotate")


class LiveApi:
    """The server and the admin's hand on its keys. Each test makes tenants and keys of its own."""

    def __init__(self, home: Path, model: Path) -> None:
        self.home = home
        self.redis = ensure(home)
        self.settings = AuthSettings.from_env({"QUILLGATE_HOME": str(home)})
        self.admin = self.admin_of(self.settings)
        self.admin.set_up()
        # The tests choose the address that bad keys are counted by: see `address`.
        self.environ = {
            "QUILLGATE_HOME": str(home),
            "MODEL_URI": str(model),
            "TRUSTED_PROXY_HOPS": "1",
        }
        self.server = ApiServer(self.environ)
        self._names = itertools.count(1)

    def admin_of(self, settings: AuthSettings) -> Admin:
        stores = open_stores(settings, self.redis.url, redis_timeout_seconds=ADMIN_TIMEOUT_SECONDS)
        return stores.admin(Actor("tests", "local"))

    def tenant(self, plan: str = "standard") -> str:
        name = f"tenant-{next(self._names)}"
        self.admin.tenants.add(name, plan)
        return name

    def issue(
        self, plan: str = "standard", scopes: tuple[str, ...] = ALL_SCOPES, **more: Any
    ) -> dict[str, Any]:
        """Return a new key of a new tenant."""
        return self.admin.keys.issue(self.tenant(plan), "test", scopes, **more)

    def address(self) -> dict[str, str]:
        """Return headers that come from an address of their own."""
        n = next(self._names)
        return {"X-Forwarded-For": f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"}

    def left(self, key: str) -> dict[str, int]:
        """Return what the key has left of each limit."""
        body = self.server.get("/v1/key", key).json()
        return {limit["name"]: limit["remaining"] for limit in body["limits"]}

    def stop(self) -> None:
        self.server.stop()
        self.redis.close()


@pytest.fixture(scope="session")
def live_api(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[LiveApi]:
    live = LiveApi(tmp_path_factory.mktemp("home"), tiny_model)
    live.server.wait_ready()
    yield live
    live.stop()


@pytest.fixture
def fresh_key(live_api: LiveApi) -> Callable[..., str]:
    """Return a function that issues a key of a new tenant."""

    def issue(**how: Any) -> str:
        key: str = live_api.issue(**how)["key"]
        return key

    return issue


def other_label(live: LiveApi) -> str:
    """Return a good key of the other label, in the same keyring."""
    settings = AuthSettings.from_env({"QUILLGATE_HOME": str(live.home), "KEY_LABEL": "test"})
    key: str = live.admin_of(settings).keys.issue(live.tenant(), "test", ALL_SCOPES)["key"]
    return key
