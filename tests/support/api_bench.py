"""An app in this process whose keyring, limiter and engine a test decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from api.config import Settings
from api.limits.limiter import LimiterUnavailableError
from api.limits.policy import Decision, Lease, Once
from auth.admin import Admin
from auth.audit import Actor
from auth.errors import InvalidKeyError, KeyRefusal
from auth.ledger import DayUsage
from auth.plans import Plan
from auth.principal import Principal, Scope
from auth.propagation import Propagation
from tests.support.scripted_engine import ScriptedEngine

GOOD = "the good key"
PLAN = Plan("test", 1000, 100_000, 1_000_000, 10_000_000, 100, 10_000, 1)
PRINCIPAL = Principal(
    key_id="AAAAAAAAAAAA",
    name="ci",
    tenant="acme",
    plan=PLAN,
    scopes=frozenset(Scope),
    label="live",
    expires_at=None,
    allowed_cidrs=(),
    created_at=0,
    keyring_shard="keyring-0",
    keyring_version=1,
)


class FakeKeyring:
    """Knows one key; what it becomes, or the refusal, is `answer`."""

    ready, why_not_ready, problem = True, None, None
    age_seconds, max_age_seconds = 0.0, 86_400.0

    def __init__(self) -> None:
        self.answer: Principal | Exception = PRINCIPAL
        self.newer: Principal | Exception | None = None  # what `observe` brings
        self.looked_up: list[bool] = []
        self.addresses: list[str] = []

    def load(self) -> None:
        """There is nothing to load."""

    def authenticate(
        self, text: str | None, address: str, _now: float, *, look_up: bool = True
    ) -> Principal:
        self.looked_up.append(look_up)
        self.addresses.append(address)
        if isinstance(self.answer, Exception):
            raise self.answer
        if text != GOOD:
            raise InvalidKeyError(KeyRefusal.UNKNOWN if text else KeyRefusal.MISSING)
        return self.answer

    def keys_of(self, tenant: str) -> dict[str, str]:
        return {PRINCIPAL.key_id: PRINCIPAL.name} if tenant == PRINCIPAL.tenant else {}

    def observe(self, _shard: str, _version: int) -> bool:
        if self.newer is None:
            return False
        self.answer, self.newer = self.newer, None
        return True


@dataclass
class FakeLimiter:
    """Admits everything unless `refusal` is set, and remembers each charge."""

    refusal: Decision | None = None
    keyring_version: int | None = None
    sunset_at: int | None = None
    up: bool = True
    acquired: list[int] = field(default_factory=list)
    settled: list[tuple[int, str]] = field(default_factory=list)
    rows: list[DayUsage] = field(default_factory=list)

    def acquire(
        self,
        principal: Principal,
        *,
        chars: int,
        lease_seconds: float,
        address: str,
        once: Once | None = None,
    ) -> Decision:
        if self.refusal is not None:
            return self.refusal._replace(keyring_version=self.keyring_version)
        self.acquired.append(chars)
        lease = Lease(f"lease-{len(self.acquired)}", principal.tenant, principal.key_id, chars, 0)
        return Decision(lease=lease, keyring_version=self.keyring_version, sunset_at=self.sunset_at)

    def peek(
        self,
        principal: Principal,
        *,
        chars: int = 0,
        address: str = "",
        once: Once | None = None,
    ) -> Decision:
        return self.refusal or Decision(lease=None, keyring_version=self.keyring_version)

    def usage(self, tenant: str, key_ids: Iterable[str], first: date, last: date) -> list[DayUsage]:
        if not self.up:
            raise LimiterUnavailableError("away")
        return [row for row in self.rows if first <= row.day <= last and row.key_id in key_ids]

    def settling(self, lease: Lease, *, used_chars: int, finish: str) -> Callable[[], None]:
        return lambda: self.settled.append((used_chars, finish))

    def ping(self) -> bool:
        return self.up

    def close(self) -> None:
        """There is nothing to close."""


@dataclass
class Bench:
    """The app and the parts that a test may turn."""

    app: Flask
    keyring: FakeKeyring
    limiter: FakeLimiter
    engine: ScriptedEngine

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def generate(self, **fields: Any) -> Any:
        return self.client.post("/generate", json=fields, headers={"X-API-Key": GOOD})


def no_admin(_actor: Actor) -> Admin:
    raise AssertionError("this test administers nothing")


@pytest.fixture
def make_bench(redis_url: str) -> Callable[..., Bench]:
    """Return a function that makes an app; keyword arguments are settings."""

    def make(redis_url: str = redis_url, **environ: str) -> Bench:
        settings = Settings.from_env({"LOG_FORMAT": "json", **environ})
        keyring, limiter, engine = FakeKeyring(), FakeLimiter(), ScriptedEngine()
        app = create_app(
            settings,
            keyring=keyring,
            limiter=limiter,
            load_engine=lambda: engine,
            admin=no_admin,
            redis_url=redis_url,
            count_failure=Propagation(redis_url, timeout_seconds=10).count_failure,
        )
        lifecycle = app.extensions["quillgate"].lifecycle
        lifecycle.start()
        deadline = time.monotonic() + 10
        while lifecycle.model_check != "ok":
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return Bench(app, keyring, limiter, engine)

    return make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()
