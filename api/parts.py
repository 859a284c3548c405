"""The parts of one process, and what the service asks of those that other rooms make."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

from flask import current_app

from api.config import Settings
from api.expiry import ExpiryNotices
from api.lifecycle import Lifecycle
from api.limits.policy import Decision, Lease, Once
from api.telemetry import Metrics
from api.throttle import Throttle
from api.tracing import NoTracing, Tracing
from auth.admin import Admin
from auth.audit import Actor
from auth.ledger import DayUsage
from auth.principal import Principal


class Keyring(Protocol):
    """What the service needs of `auth.keyring_store.KeyringStore`."""

    @property
    def ready(self) -> bool: ...
    @property
    def why_not_ready(self) -> str | None: ...
    @property
    def problem(self) -> str | None: ...
    @property
    def age_seconds(self) -> float: ...
    @property
    def max_age_seconds(self) -> float: ...
    def load(self) -> None: ...
    def authenticate(
        self, text: str | None, address: str, now: float, *, look_up: bool = True
    ) -> Principal: ...
    def keys_of(self, tenant: str) -> Mapping[str, str]: ...
    def observe(self, shard: str, version: int) -> bool: ...


class Limiter(Protocol):
    """What the service needs of `api.limits.limiter.RedisLimiter`."""

    def acquire(
        self,
        principal: Principal,
        *,
        chars: int,
        lease_seconds: float,
        address: str,
        once: Once | None = None,
    ) -> Decision: ...
    def settling(self, lease: Lease, *, used_chars: int, finish: str) -> Callable[[], None]: ...
    def peek(
        self,
        principal: Principal,
        *,
        chars: int = 0,
        address: str = "",
        once: Once | None = None,
    ) -> Decision: ...
    def usage(
        self, tenant: str, key_ids: Iterable[str], first: date, last: date
    ) -> list[DayUsage]: ...
    def ping(self) -> bool: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of one process, made once by `create_app`."""

    settings: Settings
    keyring: Keyring
    limiter: Limiter
    lifecycle: Lifecycle
    throttle: Throttle
    metrics: Metrics
    admin: Callable[[Actor], Admin]
    expiry: ExpiryNotices = field(default_factory=ExpiryNotices)
    tracing: Tracing = field(default_factory=NoTracing)
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    started_at: int = 0  # Unix seconds


def service() -> Service:
    found: Service = current_app.extensions["quillgate"]
    return found
