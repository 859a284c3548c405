"""Admins change keys in any order while Redis, the store and the clock do what they like.

Two instances answer requests as the service does: authenticate, ask the limiter (the real one, on
a real Redis), and check again if the keyring turned out to be newer. After each act one of them is
asked about every whole key there ever was; the other may sleep for long. What they answer is held
against tests/support/keyring_model.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from string import ascii_letters
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from auth import api_key
from auth.secrets import SecretStore, SecretStoreUnavailableError
from tests.support.auth_world import World
from tests.support.keyring_actors import Act, KeyringActors
from tests.support.keyring_parts import Parts

WAITS = st.sampled_from([1, 6, 32, 61, 90_000])
TWO_WAITS = st.tuples(WAITS, WAITS)
ACT = st.builds(
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
)
ACTS = st.lists(ACT, min_size=1, max_size=5)
BLIPS = st.sampled_from([1, 3, 5, 8])  # seconds: shorter and longer than a writer tries


@contextmanager
def first_failure(machine: KeyringMachine) -> Iterator[None]:
    """Keep the first failure with what was done up to it.

    Hypothesis runs the failing example again to tell of it, but what Redis and the store hold by
    then is not what they held.
    """
    try:
        yield
    except Exception as exc:
        exc.add_note("\n".join(["after:", *machine.story]))
        machine.parts.failure = exc
        raise


def chapter(**drawn: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """Make a rule of the machine."""

    def told(act: Callable[..., None]) -> Any:
        @wraps(act)
        def run(machine: KeyringMachine, **given: Any) -> None:
            if machine.parts.failure is not None:
                return
            machine.story.append(f"{act.__name__} {given}")
            with first_failure(machine):
                act(machine, **given)

        return rule(**drawn)(run)

    return told


class KeyringMachine(KeyringActors):
    """A rule is a chapter of the story."""

    @initialize()
    def begin(self) -> None:
        self.story: list[str] = []
        if self.parts.failure is None:
            with first_failure(self):
                self.set_up()

    @chapter(acts=ACTS)
    def all_is_well(self, acts: list[Act]) -> None:
        self.play(acts)

    @chapter(acts=ACTS, wait=WAITS, after=ACTS)
    def redis_is_away(self, acts: list[Act], wait: int, after: list[Act]) -> None:
        self.line.cut = True
        self.play(acts)
        self.pass_time(wait)
        self.ask_everything(0)
        self.line.cut = False
        self.pass_time(wait)
        self.play(after)

    @chapter(act=ACT, seconds=BLIPS, after=ACTS)
    def redis_is_away_for_seconds(self, act: Act, seconds: int, after: list[Act]) -> None:
        """So few that no instance notices, while something changes: nobody may miss it."""
        self.ask_everything(0)
        self.ask_everything(1)
        back_at = self.clock() + seconds
        self.line.away_until = back_at
        if act.force:
            self.revoked_by(self.admin, self.pick(act.key))
        else:
            self.rotated_by(self.admin, self.pick(act.key), act.deadline, act.grace, force=True)
        self.pass_time(max(0.0, back_at - self.clock()))
        self.asked_again_and_again(0, act.key, seconds=36)
        self.ask_everything(0)
        self.ask_everything(1)
        self.play(after)

    @chapter(
        acts=ACTS, which=st.integers(0, 1), redis_too=st.booleans(), waits=TWO_WAITS, after=ACTS
    )
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

    @chapter(seconds=WAITS, body=st.sampled_from([b"spoilt", b"{}"]), after=ACTS)
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
        self.asked_again_and_again(0, act.key, act.seconds)

    def asked_again_and_again(self, which: int, key: int, seconds: int) -> None:
        """Let time pass with so many requests that Redis is never long without a word."""
        key_id = self.pick(key)
        for _ in range(0, seconds, 3):
            self.ask(which, key_id, self.newest(key_id).texts[0])
            self.pass_time(3)


def drive(shared: Parts, examples: int) -> None:
    """Run examples until one fails. It is printed as it is: shrinking on real parts takes long."""

    class Machine(KeyringMachine):
        parts = shared

    try:
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
    except Exception as exc:  # noqa: BLE001 - whatever it is, the first failure says it better
        raise shared.failure or exc from None
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
    rolled = random.Random(1)
    monkeypatch.setattr(
        api_key, "_random", lambda count: "".join(rolled.choices(ascii_letters, k=count))
    )
    for number in range(20 if soak else 1):  # each a keyring of its own: a shard becomes full
        shared = Parts(open_secret_store, redis_url, f"qg{number}")
        drive(shared, examples=15 if soak else 8)
        print(f"keyring {number}: {shared.changes} changes")  # noqa: T201 - the progress of make soak


@pytest.mark.parametrize("seconds", [1, 5])
@pytest.mark.parametrize("revoked", [True, False])
def test_a_writer_is_heard_after_seconds_without_redis(
    file_world: World, redis_url: str, seconds: int, *, revoked: bool
) -> None:
    """An instance that noticed nothing of the gap knows of what changed in it."""

    class Machine(KeyringMachine):
        parts = Parts(file_world.open_store, redis_url)

    machine = Machine()
    machine.begin()
    act = Act("rotate", key=1, deadline=0, grace=5, force=revoked, then="leave", seconds=1)
    machine.redis_is_away_for_seconds(act=act, seconds=seconds, after=[])
    machine.parts.limiter.close()
