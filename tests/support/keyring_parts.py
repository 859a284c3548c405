"""What the keyring's machine acts on: a Redis and a store that misbehave when told to."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from api.limits.limiter import RedisLimiter
from auth.documents import Documents
from auth.propagation import PropagationUnavailableError
from auth.secrets import SecretStore
from tests.support.auth_world import PREFIX, Clock, FlakyStore, World


class Line:
    """A connection to a real Redis that can be cut, also for so many seconds."""

    def __init__(self, propagation: Any, clock: Clock) -> None:
        self._propagation, self._clock = propagation, clock
        self.away_until = float("-inf")

    @property
    def cut(self) -> bool:
        return self._clock() < self.away_until

    @cut.setter
    def cut(self, cut: bool) -> None:
        self.away_until = float("inf") if cut else float("-inf")

    def held_first_use(self, *rotation: Any) -> int | None:
        """Return what Redis holds, also while nobody can ask it."""
        found: int | None = self._propagation.first_use(*rotation)
        return found

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._propagation, name)

        def call(*args: Any) -> Any:
            if self.cut:
                raise PropagationUnavailableError("cut")
            return method(*args)

        return call


class Meddled(FlakyStore):
    """A store whose next new version is preceded by what somebody else does."""

    meddle: Callable[[], None] | None = None

    def add_version(self, name: str, data: bytes) -> int:
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle()
        return self.__getattr__("add_version")(name, data)


class Parts:
    """What all examples of a test share; each makes a tenant and keys of its own."""

    def __init__(
        self, open_store: Callable[[], SecretStore], redis_url: str, prefix: str = PREFIX
    ) -> None:
        self.world = World(open_store, redis_url, prefix=prefix, shards=1, documents=impatient)
        self.line = Line(self.world.propagation(), self.world.clock)
        self.store = Meddled(open_store())
        self.admin = self.world.admin(self.store, propagation=self.line)
        self.other = self.world.admin(propagation=self.line)
        self.admin.tenants.add("first", "partner")
        clock = self.world.clock
        self.limiter = RedisLimiter(
            redis_url, timeout_seconds=10, redis_clock_ms=lambda: round(clock() * 1000)
        )
        self.names, self.changes = count(1), 1
        self.failure: Exception | None = None  # the first


def impatient(store: SecretStore) -> Documents:
    """Return documents whose writers wait in no time: one that is stuck gives up at once."""
    patience = Clock()
    return Documents(store, monotonic=patience, sleep=patience.sleep)
