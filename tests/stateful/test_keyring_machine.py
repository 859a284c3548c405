"""Admins change keys in any order while Redis, the store and the clock do what they like.

Two instances answer requests as the service does: authenticate, ask the limiter (the real one, on
a real Redis), and check again if the keyring turned out to be newer. After each act one of them is
asked about every whole key there ever was; the other may sleep for long. What they answer is held
against tests/support/keyring_model.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from string import ascii_letters
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from api.limits.limiter import RedisLimiter
from auth import api_key
from auth.admin import Admin
from auth.errors import (
    AdminRefusedError,
    InvalidKeyError,
    KeyringUnavailableError,
    TenantDisabledError,
)
from auth.keyring_store import KeyringStore
from auth.propagation import PropagationUnavailableError
from auth.secrets import SecretStore, SecretStoreUnavailableError
from tests.support.auth_world import FlakyStore, World
from tests.support.keyring_model import Instance, KeyState, Rotation, Timeline, rotated

TENANT = "the tenant"


class Act(NamedTuple):
    """One thing that an admin, a caller or the clock does; each uses what it needs of this."""

    what: str
    key: int
    deadline: int
    grace: int
    force: bool
    then: str  # after a rotation
    seconds: int


WAITS = st.sampled_from([1, 6, 32, 61, 90_000])
TWO_WAITS = st.tuples(WAITS, WAITS)
ACTS = st.lists(
    st.builds(
        Act,
        what=st.sampled_from(
            ["rotate"] * 8
            + ["wait", "wait", "ask the sleeper", "issue", "two admins", "two admins", "revoke"]
            + ["revoke in vain", "tenant"]
        ),
        key=st.integers(0, 3),
        deadline=st.sampled_from([60, 1000, 0]),
        grace=st.sampled_from([5, 50]),
        force=st.booleans(),
        then=st.sampled_from(
            ["leave", "use", "cancel", "rotate again", "outlive the grace", "outlive the deadline"]
        ),
        seconds=WAITS,
    ),
    min_size=1,
    max_size=5,
)


class Line:
    """A connection to a real Redis that can be cut."""

    def __init__(self, propagation: Any) -> None:
        self.cut, self._propagation = False, propagation

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

    def __init__(self, open_store: Callable[[], SecretStore], redis_url: str) -> None:
        self.world = World(open_store, redis_url, shards=1)
        self.line = Line(self.world.propagation())
        self.store = Meddled(open_store())
        self.admin = self.world.admin(self.store, propagation=self.line)
        self.other = self.world.admin(propagation=self.line)
        self.admin.tenants.add("first", "partner")
        clock = self.world.clock
        self.limiter = RedisLimiter(
            redis_url, timeout_seconds=10, redis_clock_ms=lambda: round(clock() * 1000)
        )
        self.names, self.changes = count(1), 1


class KeyringMachine(RuleBasedStateMachine):
    """Set `parts` and `dice` in a subclass."""

    parts: Parts
    dice: random.Random  # where the characters of keys come from

    @initialize()
    def begin(self) -> None:
        self.clock, self.line, self.world = (
            self.parts.world.clock,
            self.parts.line,
            self.parts.world,
        )
        self.line.cut = False
        self.clock.now += 1000
        self.tenant = f"t{next(self.parts.names)}"
        self.parts.admin.tenants.add(self.tenant, "partner")
        self.parts.changes += 1
        self.lines: dict[str, Timeline] = {TENANT: Timeline([True], [self.clock()], [True])}
        self.stores = [FlakyStore(self.world.open_store()) for _ in range(2)]
        self.keyrings = [self.world.instance(one, propagation=self.line) for one in self.stores]
        now = self.clock()
        self.instances = [Instance(heard_at=now, well_at=now) for _ in range(2)]
        self.issue()
        self.issue()
        for which, keyring in enumerate(self.keyrings):
            keyring.load()
            self.ask_everything(which)

    # -- what happens: a rule is a chapter of the story ---------------------------------------

    @rule(acts=ACTS)
    def all_is_well(self, acts: list[Act]) -> None:
        self.play(acts)

    @rule(acts=ACTS, wait=WAITS, after=ACTS)
    def redis_is_away(self, acts: list[Act], wait: int, after: list[Act]) -> None:
        self.line.cut = True
        self.play(acts)
        self.line.cut = False
        self.pass_time(wait)
        self.play(after)

    @rule(acts=ACTS, which=st.integers(0, 1), redis_too=st.booleans(), waits=TWO_WAITS, after=ACTS)
    def an_instance_loses_the_store(
        self,
        acts: list[Act],
        which: int,
        waits: tuple[int, int],
        after: list[Act],
        *,
        redis_too: bool,
    ) -> None:
        instance = self.instances[which]
        self.stores[which].failure = SecretStoreUnavailableError("away")
        instance.readable, self.line.cut = False, redis_too
        self.play(acts)
        self.pass_time(waits[0])
        self.ask_everything(which)
        self.stores[which].failure = None
        instance.readable, self.line.cut = True, False
        instance.unreadable_until = self.clock()
        self.pass_time(waits[1])
        self.play(after)

    @rule(seconds=WAITS, body=st.sampled_from([b"spoilt", b"{}"]), after=ACTS)
    def the_shard_is_spoilt(self, seconds: int, body: bytes, after: list[Act]) -> None:
        """What is malformed replaces nothing; when it is mended, all is as before."""
        store, name = self.world.open_store(), self.world.names.shard(0)
        good = store.access(name, store.read_alias(name, "current").number).data
        self.put(store, name, body)
        for instance in self.instances:
            instance.readable = False
        self.ask_everything(0)
        self.pass_time(seconds)
        self.ask_everything(0)
        self.put(store, name, good)
        for instance in self.instances:
            instance.readable, instance.unreadable_until = True, self.clock()
        self.pass_time(2)
        self.play(after)

    def play(self, acts: list[Act]) -> None:
        for act in acts:
            {
                "issue": self.issue,
                "rotate": lambda act=act: self.rotate(act),
                "revoke": lambda act=act: self.revoke(act),
                "revoke in vain": lambda act=act: self.revoke_in_vain(act),
                "two admins": lambda act=act: self.two_admins(act),
                "tenant": lambda act=act: self.tenant_is_disabled(act),
                "wait": lambda act=act: self.wait(act),
                "ask the sleeper": lambda: self.ask_everything(1),
            }[act.what]()
            self.ask_everything(0)

    def wait(self, act: Act) -> None:
        """Let time pass, in silence or with a request every few seconds."""
        if not act.force or act.seconds > 61:
            self.pass_time(act.seconds)
            return
        key_id = self.pick(act.key)
        for _ in range(0, act.seconds, 3):
            self.pass_time(3)
            self.ask(0, key_id, self.newest(key_id).texts[0])

    def pass_time(self, seconds: int) -> None:
        self.clock.now += seconds

    # -- what admins do ----------------------------------------------------------------------

    def issue(self) -> None:
        key = self.admin.keys.issue(self.tenant, "ci", ["generate"])
        line = Timeline([None], [float("-inf")], [True])
        line.change(KeyState((key["key"],)), self.clock(), told=not self.line.cut)
        self.lines[key["key_id"]] = line
        self.parts.changes += 1

    def rotate(self, act: Act) -> None:
        """Rotate a key and, if it was, do what one does next."""
        key_id = self.pick(act.key)
        self.rotated_by(self.admin, key_id, act.deadline, act.grace, force=act.force)
        self.ask_everything(0)
        if act.then == "cancel":
            self.cancel(key_id)
        if act.then == "rotate again":
            self.rotated_by(self.admin, key_id, act.deadline, act.grace, force=True)
        if act.then in ("use", "outlive the grace"):
            self.ask(act.key % 2, key_id, self.newest(key_id).texts[-1])
        if act.then == "outlive the grace":
            self.ask_everything(0)
            self.pass_time(act.grace)
        if act.then == "outlive the deadline":
            self.pass_time(act.deadline)

    def cancel(self, key_id: str) -> None:
        state, now, first_use = self.newest(key_id), self.clock(), self.first_use(key_id)
        try:
            self.admin.keys.cancel_rotation(key_id)
        except AdminRefusedError:
            over = state.rotation is None or now >= state.rotation.deadline
            assert over or first_use is not None or self.line.cut
            return
        assert first_use is None
        assert not self.line.cut
        self.changed(key_id, KeyState(state.texts[:1]))

    def revoke(self, act: Act) -> None:
        self.revoked_by(self.admin, self.pick(act.key))
        self.issue()

    def revoke_in_vain(self, act: Act) -> None:
        """The store fails; the marker in Redis, if it is there, holds until the next try."""
        key_id = self.pick(act.key)

        def fail() -> None:
            raise SecretStoreUnavailableError("away")

        self.parts.store.meddle = fail
        with suppress(SecretStoreUnavailableError):
            self.admin.keys.revoke(key_id, "test")
        assert self.parts.store.meddle is None
        self.lines[key_id].marked |= not self.line.cut
        self.issue()

    def two_admins(self, act: Act) -> None:
        """One changes a key between the other's reading and writing of the same shard."""
        one, two = self.pick(act.key), self.pick(act.key + 1)
        if one == two or self.newest(one).revoked:
            return

        def meddle() -> None:
            if act.force:
                self.revoked_by(self.parts.other, two)
            else:
                self.rotated_by(self.parts.other, two, act.deadline, act.grace, force=True)

        self.parts.store.meddle = meddle
        self.rotated_by(self.admin, one, act.deadline, act.grace, force=True)
        assert self.parts.store.meddle is None

    def tenant_is_disabled(self, act: Act) -> None:
        """For a while: as long as it is, nothing else shows."""
        self.admin.tenants.disable(self.tenant)
        self.changed(TENANT, state=False)
        self.ask_everything(act.key % 2)
        self.pass_time(act.seconds)
        self.ask_everything(0)
        self.admin.tenants.enable(self.tenant)
        self.changed(TENANT, state=True)

    def put(self, store: SecretStore, name: str, data: bytes) -> None:
        number = store.add_version(name, data)
        store.move_alias(name, "current", number, store.read_alias(name, "current").etag)
        self.line.publish(self.world.prefix, {name: number})

    # -- what callers see --------------------------------------------------------------------

    def ask_everything(self, which: int) -> None:
        """Ask about every whole key but new secrets that nobody used: asking would be a use."""
        for key_id, line in self.lines.items():
            if key_id == TENANT:
                continue
            texts = {text for state in line.states[1:] for text in state.texts}
            newest = self.newest(key_id)
            if newest.rotation is not None and self.first_use(key_id) is None:
                texts.discard(newest.texts[-1])
            for text in sorted(texts):
                self.ask(which, key_id, text)

    def ask(self, which: int, key_id: str, text: str) -> None:
        instance, now, redis_up = self.instances[which], self.clock(), not self.line.cut
        line, tenant = self.lines[key_id], self.lines[TENANT]
        first_use = self.first_use(key_id)
        try:
            accepted = self.answer(self.keyrings[which], text)
        except KeyringUnavailableError:
            assert instance.may_be_too_old(now), "an instance gave up its keyring too early"
            return
        assert not instance.must_be_too_old(now, redis_up=redis_up), "a keyring served too long"
        instance.asked(now, redis_up=redis_up)
        keys = instance.learn(key_id, line, now, redis_up=redis_up)
        tenants = instance.learn(TENANT, tenant, now, redis_up=redis_up)
        possible = {
            good and active
            for good in (self.good(key_id, state, text, first_use) for state in keys)
            for active in tenants
        }
        assert accepted in possible, f"accepted: {accepted}, but possible: {possible}"
        newest = self.newest(key_id)
        if accepted and redis_up and keys == [newest] and newest.rotation is not None:
            used_new = text == newest.texts[-1] and now < newest.rotation.deadline
            assert not used_new or self.first_use(key_id) is not None, "no first use was noted"

    def good(self, key_id: str, state: Any, text: str, first_use: int | None) -> bool:
        """Say whether a state lets a whole key in."""
        if state is None or state.revoked or text not in state.texts:
            return False
        if not self.line.cut and self.lines[key_id].marked:
            return False
        known = None if self.line.cut else first_use  # how grace began is in Redis alone
        newest = self.newest(key_id).rotation
        known = known if state.rotation == newest else None
        return text in state.settled(self.clock(), known).texts

    def answer(self, keyring: KeyringStore, text: str) -> bool:
        """Do with a key what the service does with it (api/admission.py)."""
        for _ in range(2):
            try:
                principal = keyring.authenticate(text, "192.0.2.1", self.clock())
            except (InvalidKeyError, TenantDisabledError):
                return False
            if self.line.cut:
                return True
            decision = self.parts.limiter.peek(principal)
            if not keyring.observe(principal.keyring_shard, decision.keyring_version):
                break
        return decision.code != "invalid_key"

    # -- helpers -----------------------------------------------------------------------------

    @property
    def admin(self) -> Admin:
        return self.parts.admin

    def rotated_by(
        self, admin: Admin, key_id: str, deadline: int, grace: int, *, force: bool
    ) -> None:
        state, now = self.newest(key_id), self.clock()
        first_use = None if self.line.cut else self.first_use(key_id)
        live = len(state.settled(now, first_use).texts)
        try:
            key = admin.keys.rotate(
                key_id, deadline_seconds=deadline, grace_seconds=grace, force=force
            )
        except AdminRefusedError:
            assert self.newest(key_id).revoked or (live == 2 and not force)
            return
        assert not state.revoked
        assert force or live == 1
        told = key["rotation"]
        started_at = told["started_at"] if told else int(now)
        rotation = Rotation(started_at, now + deadline, grace)
        self.changed(key_id, rotated(state, key["key"], rotation, now, first_use))

    def revoked_by(self, admin: Admin, key_id: str) -> None:
        admin.keys.revoke(key_id, "test")
        line, state = self.lines[key_id], self.newest(key_id)
        line.marked = line.marked or not self.line.cut
        self.changed(key_id, KeyState(state.texts[-1:], None, revoked=True))

    def changed(self, name: str, state: object) -> None:
        self.lines[name].change(state, self.clock(), told=not self.line.cut)
        self.parts.changes += 1

    def pick(self, key: int) -> str:
        """Return a key's id: of those that live rather than of those that are revoked."""
        names = [name for name in self.lines if name != TENANT]
        live = [name for name in names if not self.newest(name).revoked]
        live = [name for name in live if not self.lines[name].marked]
        return live[key % 2] if key < 3 and len(live) > 1 else names[key % len(names)]

    def newest(self, key_id: str) -> KeyState:
        state = self.lines[key_id].newest
        assert isinstance(state, KeyState)
        return state

    def first_use(self, key_id: str) -> int | None:
        """Return what Redis holds of the newest rotation, also while nobody can ask it."""
        rotation = self.newest(key_id).rotation
        if rotation is None:
            return None
        return self.line._propagation.first_use(self.tenant, key_id, rotation.started_at)


def drive(
    open_store: Callable[[], SecretStore],
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    examples: int,
) -> None:
    """Run examples until one fails. It is printed as it is: shrinking on real parts takes long."""
    rolled = random.Random(1)
    monkeypatch.setattr(
        api_key, "_random", lambda count: "".join(rolled.choices(ascii_letters, k=count))
    )
    shared = Parts(open_store, redis_url)

    class Machine(KeyringMachine):
        parts = shared
        dice = rolled

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=4,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    shared.line.cut = False
    assert shared.other.verify_audit()["records"] == shared.changes
    shared.limiter.close()


def test_callers_see_what_admins_did(
    open_secret_store: Callable[[], SecretStore],
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    soak: bool,
) -> None:
    """At once while Redis and the store are there, within half a minute without Redis, and never
    anything that was not so; no change is lost, and each is in the audit chain once."""
    drive(open_secret_store, redis_url, monkeypatch, examples=300 if soak else 8)
