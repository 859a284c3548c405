"""A secret store, a Redis and a clock of the test's own, and instances and admins over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from auth import users
from auth.admin import Admin
from auth.audit import Actor
from auth.config import AuthSettings
from auth.documents import Documents
from auth.errors import InvalidKeyError
from auth.keyring_store import KeyringStore
from auth.names import Names
from auth.plans import load_plans
from auth.principal import Principal
from auth.propagation import Propagation
from auth.propagation_keys import rotation_first_use
from auth.secrets import SecretStore
from auth.stores import Stores
from auth.users import UserStore

PREFIX = "qgtest"
SHARDS = 4
START = 1_800_000_000


class Clock:
    """A clock that moves when told to."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FlakyStore:
    """A real store that can be away, and counts what it is asked."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store
        self.failure: Exception | None = None
        self.failing: dict[str, Exception] = {}  # by the name of the call
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any) -> Any:
            self.asked.append(name)
            if self.failure is not None:
                raise self.failure
            if name in self.failing:
                raise self.failing[name]
            return method(*args)

        return call


@dataclass
class World:
    """What a test acts on."""

    open_store: Callable[[], SecretStore]
    redis_url: str
    clock: Clock = field(default_factory=Clock)
    prefix: str = PREFIX
    shards: int = SHARDS
    documents: Callable[[SecretStore], Documents] = Documents
    redis_timeout_seconds: float = 10.0  # tests wait for a busy machine, not for a Redis

    @property
    def names(self) -> Names:
        return Names(self.prefix)

    def settings(self) -> AuthSettings:
        return AuthSettings(
            home=Path("unused"),
            gcp_project=None,
            prefix=self.prefix,
            emulator_host=None,
            redis_url=self.redis_url,
            key_label="live",
            keyring_shards=self.shards,
        )

    def propagation(self) -> Propagation:
        return Propagation(
            self.redis_url, timeout_seconds=self.redis_timeout_seconds, monotonic=self.clock
        )

    def instance(
        self,
        store: SecretStore | None = None,
        *,
        label: str = "live",
        with_redis: bool = True,
        propagation: Propagation | None = None,
        wanted_shards: int | None = None,
    ) -> KeyringStore:
        """Return a keyring as one API process holds it, not loaded yet."""
        return KeyringStore(
            store or self.open_store(),
            (propagation or self.propagation()) if with_redis else None,
            prefix=self.prefix,
            plans=load_plans(),
            label=label,
            clock=self.clock,
            wanted_shards=wanted_shards,
        )

    def loaded(self, store: SecretStore | None = None, *, with_redis: bool = True) -> KeyringStore:
        keyring = self.instance(store, with_redis=with_redis)
        keyring.load()
        return keyring

    def admin(
        self,
        store: SecretStore | None = None,
        *,
        actor: str = "cli:ada",
        propagation: Propagation | None = None,
    ) -> Admin:
        """Return an admin's operations, over connections of their own."""
        chosen = store or self.open_store()
        stores = Stores(
            settings=self.settings(),
            secrets=chosen,
            propagation=propagation or self.propagation(),
            plans=load_plans(),
            keyring=self.instance(chosen),
            users=UserStore(chosen, self.names),
            clock=self.clock,
            sleep=self.clock.sleep,
            documents=self.documents,
        )
        return stores.admin(Actor(actor, "192.0.2.1"))

    def tenant(self, name: str = "acme", plan: str = "standard") -> Admin:
        """Set the store up with one tenant, and return the admin who did."""
        admin = self.admin()
        admin.tenants.add(name, plan)
        return admin

    def first_use(self, key_id: str, started_at: int, at: float, tenant: str = "acme") -> None:
        """Note the first use of a rotation's new secret, as the limiter does."""
        with redis.Redis.from_url(self.redis_url) as client:
            client.set(rotation_first_use(tenant, key_id, started_at), int(at * 1000), ex=86_400)

    def accepted(self, keyring: KeyringStore, key: str, address: str = "192.0.2.9") -> bool:
        """Say whether a key is accepted by an instance, as it is when asked."""
        try:
            self.principal(keyring, key, address)
        except InvalidKeyError:
            return False
        return True

    def principal(self, keyring: KeyringStore, key: str, address: str = "192.0.2.9") -> Principal:
        return keyring.authenticate(key, address, self.clock())


@pytest.fixture
def world(open_secret_store: Callable[[], SecretStore], redis_url: str) -> World:
    """Return an empty world; the test runs once for every kind of secret store."""
    return World(open_secret_store, redis_url)


@pytest.fixture
def file_world(tmp_path: Path, redis_url: str) -> World:
    """Return an empty world over secrets in files."""
    from auth.secrets.file import FileSecretStore

    # Fifty writers at once wait for one another longer on a machine that is taken away.
    return World(
        lambda: FileSecretStore(tmp_path / "secrets", lock_timeout_seconds=100.0), redis_url
    )


@pytest.fixture
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords at bcrypt's lowest cost, in this process."""
    monkeypatch.setattr(users, "BCRYPT_COST", 4)
