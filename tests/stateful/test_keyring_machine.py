"""Admins change keys in any order while Redis, the store and the clock do what they like.

Two instances answer requests as the service does: authenticate, ask Redis for the revoked marker
and the pointer as the limiter's call does, and check again if the keyring turned out to be newer.
What they answer is compared with a model of which whole keys are good.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from string import ascii_letters
from typing import Any, NamedTuple

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from auth import api_key
from auth.changes import TELL_SECONDS
from auth.errors import AdminRefusedError, InvalidKeyError
from auth.keyring_refresh import RECHECK_SECONDS
from auth.keyring_store import KeyringStore
from auth.propagation import Propagation, PropagationUnavailableError
from auth.secrets import SecretStore, SecretStoreUnavailableError
from tests.support.auth_world import FlakyStore, World

BOUND_SECONDS = RECHECK_SECONDS + TELL_SECONDS + 1  # how late a change may be seen, at worst
INSTANCES = st.integers(0, 1)


class Step(NamedTuple):
    """One thing that an admin, a caller or the clock does."""

    what: str
    key: int
    instance: int
    seconds: float


STEP = st.builds(
    Step,
    # Callers ask most often.
    what=st.sampled_from(
        ["request"] * 5 + ["wait", "wait", "issue", "rotate", "rotate", "force", "cancel", "revoke"]
    ),
    key=st.integers(0, 3),
    instance=INSTANCES,
    seconds=st.sampled_from([0.0, 1.0, 3.0, 20.0, 40.0, 1000.0]),
)
STEPS = st.lists(STEP, min_size=1, max_size=8)

# For each key id: its good whole keys, oldest first, and when each ends.
Good = dict[str, dict[str, float]]
NEVER = float("inf")


class Line:
    """A connection to a real Redis that can be cut."""

    def __init__(self, propagation: Propagation) -> None:
        self.cut = False
        self._propagation = propagation

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._propagation, name)

        def call(*args: Any) -> Any:
            if self.cut:
                raise PropagationUnavailableError("cut")
            return method(*args)

        return call


class KeyringMachine(RuleBasedStateMachine):
    """Set `open_store`, `redis_url` and `dice` in a subclass."""

    open_store: Callable[[], SecretStore]
    redis_url: str
    dice: random.Random  # where the characters of keys come from
    examples = 0

    @initialize()
    def begin(self) -> None:
        self.dice.seed(0)  # so that an example can be repeated
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushall()
        type(self).examples += 1
        self.world = World(type(self).open_store, self.redis_url, prefix=f"m{self.examples}")
        self.clock = self.world.clock
        self.line = Line(self.world.propagation())
        self.admin = self.world.admin(propagation=self.line)
        self.admin.tenants.add("acme", "free")
        self.changes = 1
        self.stores = [FlakyStore(self.world.open_store()) for _ in range(2)]
        self.instances = [
            self.world.instance(store, propagation=self.line) for store in self.stores
        ]
        for instance in self.instances:
            instance.load()
        self.issued: dict[str, list[str]] = {}  # every whole key there ever was, by id
        self.history: list[tuple[float, Good]] = [(-NEVER, {})]
        self.broken: bytes | None = None
        self.unread_until = [-NEVER] * 2  # when each instance was last without its store
        self.well_at: dict[tuple[int, str], float] = {}  # when all was well, at a key's request
        self.administer(Step("issue", 0, 0, 0))
        self.untold = -NEVER  # when Redis was last away

    # -- single steps ------------------------------------------------------------------------

    @rule(steps=STEPS)
    def all_is_well(self, steps: list[Step]) -> None:
        self.take(steps)

    def take(self, steps: list[Step]) -> None:
        for step in steps:
            {"wait": self.wait, "request": self.request}.get(step.what, self.administer)(step)

    def wait(self, step: Step) -> None:
        # Never a day in all: an instance that cannot read its keyring then lets nobody in.
        self.clock.now += step.seconds

    def administer(self, step: Step) -> None:
        if self.broken is not None:
            return  # a shard that cannot be read cannot be changed
        if step.what == "issue":
            key = self.admin.keys.issue("acme", "ci", ["generate"])
            self.issued[key["key_id"]] = [key["key"]]
            self.changed(key["key_id"], {key["key"]: NEVER})
            return
        key_id = self.pick(step)
        if step.what == "revoke":
            self.admin.keys.revoke(key_id, "test")
            self.changed(key_id, {})
        elif step.what == "cancel":
            self.cancel(key_id)
        else:
            self.rotate(key_id, int(step.seconds), force=step.what == "force")

    def rotate(self, key_id: str, seconds: int, *, force: bool) -> None:
        before, started = self.live(key_id), self.clock()
        try:
            key = self.admin.keys.rotate(key_id, deadline_seconds=seconds, force=force)
        except AdminRefusedError:
            assert not before or (len(before) == 2 and not force)
            return
        assert before
        assert force or len(before) == 1
        self.issued[key_id].append(key["key"])
        old = {before[-1]: started + seconds} if seconds else {}
        self.changed(key_id, {**old, key["key"]: NEVER})

    def cancel(self, key_id: str) -> None:
        before = self.live(key_id)
        try:
            self.admin.keys.cancel_rotation(key_id)
        except AdminRefusedError:
            assert len(before) < 2 or self.line.cut
            return
        assert len(before) == 2
        self.changed(key_id, {before[0]: NEVER})

    def request(self, step: Step) -> None:
        """Ask one instance about every whole key that one key ever had."""
        key_id = self.pick(step)
        for text in self.issued[key_id]:
            accepted = self.ask(self.instances[step.instance], text)
            now, since = self.clock(), self.seen_since(step.instance, key_id)
            held = [good for at, good in self.history if at > since]
            held.append(next(good for at, good in reversed(self.history) if at <= since))
            possible = {now < good.get(key_id, {}).get(text, -NEVER) for good in held}
            assert accepted in possible

    def pick(self, step: Step) -> str:
        return list(self.issued)[step.key % len(self.issued)]

    def live(self, key_id: str) -> list[str]:
        return [text for text, ends in self.good[key_id].items() if self.clock() < ends]

    @property
    def good(self) -> Good:
        return self.history[-1][1]

    def changed(self, key_id: str, texts: dict[str, float]) -> None:
        self.changes += 1
        self.history.append((self.clock(), {**self.good, key_id: texts}))

    # -- what befalls them: a time of trouble, and one in which it may still show ---------------

    @rule(steps=STEPS, after=STEPS)
    def redis_goes_away(self, steps: list[Step], after: list[Step]) -> None:
        self.line.cut = True
        self.take(steps)
        self.line.cut = False
        self.settle(after)

    @rule(steps=STEPS, after=STEPS, instance=INSTANCES, redis_too=st.booleans())
    def an_instance_loses_the_store(
        self, steps: list[Step], after: list[Step], instance: int, redis_too: bool
    ) -> None:
        self.stores[instance].failure = SecretStoreUnavailableError("away")
        self.unread_until[instance], self.line.cut = NEVER, redis_too
        self.take(steps)
        self.stores[instance].failure = None
        self.unread_until[instance], self.line.cut = self.clock(), False
        self.settle(after)

    @rule(steps=STEPS, after=STEPS, shard=st.integers(0, 3))
    def a_shard_is_spoilt(self, steps: list[Step], after: list[Step], shard: int) -> None:
        store, name = self.world.open_store(), self.world.names.shard(shard)
        self.broken = store.access(name, "current").data
        self.unread_until = [NEVER, NEVER]
        self.put(store, name, b"spoilt")
        self.take(steps)
        self.put(store, name, self.broken)
        self.broken, self.unread_until = None, [self.clock()] * 2
        self.settle(after)

    def settle(self, after: list[Step]) -> None:
        self.untold = self.clock()
        self.take(after)
        self.clock.now += BOUND_SECONDS + 1

    def put(self, store: SecretStore, name: str, data: bytes) -> None:
        number = store.add_version(name, data)
        store.move_alias(name, "current", number, store.read_alias(name, "current").etag)
        self.line.publish(self.world.prefix, {name: number})

    # -- what callers may see ----------------------------------------------------------------

    def seen_since(self, instance: int, key_id: str) -> float:
        """Return since when the instance may have missed a change of a key: now, if all is well."""
        now = self.clock()
        bounds = [now]
        if self.line.cut or now - self.untold <= BOUND_SECONDS:
            bounds.append(now - BOUND_SECONDS)
        if now - self.unread_until[instance] <= BOUND_SECONDS:
            bounds.append(self.well_at.get((instance, key_id), -NEVER) - BOUND_SECONDS)
        if len(bounds) == 1:
            self.well_at[instance, key_id] = now
        return min(bounds)

    def ask(self, keyring: KeyringStore, text: str) -> bool:
        try:
            principal = keyring.authenticate(text, "192.0.2.1", self.clock())
            if self.line.cut:
                return True
            if self.line.revoked(principal.tenant, principal.key_id):
                return False
            pointer = self.line.current_version(principal.keyring_shard)
            if keyring.observe(principal.keyring_shard, pointer):
                keyring.authenticate(text, "192.0.2.1", self.clock())
        except InvalidKeyError:
            return False
        return True

    def teardown(self) -> None:
        if hasattr(self, "admin"):
            assert self.admin.verify_audit()["records"] == self.changes


def test_callers_see_what_admins_did(
    open_secret_store: Callable[[], SecretStore],
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once while Redis and the store are there, within half a minute without Redis, and never
    anything that was not so; every change is in the audit chain once."""
    url, rolled = redis_url, random.Random()
    monkeypatch.setattr(
        api_key, "_random", lambda count: "".join(rolled.choices(ascii_letters, k=count))
    )

    class Machine(KeyringMachine):
        open_store = open_secret_store
        redis_url = url
        dice = rolled

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
