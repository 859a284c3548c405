"""What admins do to keys and what instances then answer, held against the model of both.

The machine's vocabulary, without its rules: tests/stateful/test_keyring_machine.py has those.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

from hypothesis.stateful import RuleBasedStateMachine

from auth.admin import Admin
from auth.errors import (
    AdminRefusedError,
    InvalidKeyError,
    KeyringUnavailableError,
    TenantDisabledError,
)
from auth.keyring_store import KeyringStore
from auth.secrets import SecretStore, SecretStoreUnavailableError
from tests.support.auth_world import FlakyStore
from tests.support.keyring_model import Instance, KeyState, Rotation, Timeline, rotated
from tests.support.keyring_parts import Parts

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


class KeyringActors(RuleBasedStateMachine):
    """One tenant, its keys, two instances and two admins. Set `parts` in a subclass."""

    parts: Parts

    def set_up(self) -> None:
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
        dead = self.known_dead(key_id)
        try:
            self.admin.keys.cancel_rotation(key_id)
        except AdminRefusedError:
            over = state.rotation is None or now >= state.rotation.deadline
            # Of a rotation that began without Redis nobody knows if its new secret was used.
            unknown = self.line.cut or not self.lines[key_id].told[-1]
            assert over or unknown or first_use is not None or dead
            return
        assert not dead
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
        if one == two or self.newest(one).revoked or self.known_dead(one):
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
        accepted: bool | None = None
        try:
            accepted = self.answer(self.keyrings[which], text)
        except KeyringUnavailableError:
            if instance.may_be_too_old(now):
                return
        else:
            too_old = instance.must_be_too_old(now, redis_up=redis_up)
            assert not too_old, "a keyring served too long"
            instance.asked(now, redis_up=redis_up)
        keys = instance.learn(key_id, line, now, redis_up=redis_up)
        tenants = instance.learn(TENANT, tenant, now, redis_up=redis_up)
        possible = {
            good and active
            for good in (self.good(key_id, state, text, first_use) for state in keys)
            for active in tenants
        }
        if accepted is None:  # what it would refuse may be good by what it cannot read
            behind = False in possible and instance.may_be_behind(now)
            assert behind, "an instance gave up its keyring too early"
            return
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
        live, dead = len(state.settled(now, first_use).texts), self.known_dead(key_id)
        try:
            key = admin.keys.rotate(
                key_id, deadline_seconds=deadline, grace_seconds=grace, force=force
            )
        except AdminRefusedError:
            assert self.newest(key_id).revoked or dead or (live == 2 and not force)
            return
        assert not state.revoked
        assert not dead
        assert force or live == 1
        told = key["rotation"]
        started_at = told["started_at"] if told else int(now)
        rotation = Rotation(started_at, now + deadline, grace)
        self.changed(key_id, rotated(state, key["key"], rotation, now, first_use))

    def revoked_by(self, admin: Admin, key_id: str) -> None:
        line, state = self.lines[key_id], self.newest(key_id)
        line.marked = line.marked or not self.line.cut
        admin.keys.revoke(key_id, "test")
        self.changed(key_id, KeyState(state.texts[-1:], None, revoked=True))

    def changed(self, name: str, state: object) -> None:
        self.lines[name].change(state, self.clock(), told=not self.line.cut)
        self.parts.changes += 1

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    def pick(self, key: int) -> str:
        """Return a key's id: of those that live rather than of those that are revoked."""
        names = [name for name in self.lines if name != TENANT]
        live = [name for name in names if not self.newest(name).revoked]
        live = [name for name in live if not self.lines[name].marked]
        return live[key % 2] if key < 3 and len(live) > 1 else names[key % len(names)]

    def known_dead(self, key_id: str) -> bool:
        """Say whether Redis is there to tell that the key was revoked, if in vain."""
        return self.lines[key_id].marked and not self.line.cut

    def newest(self, key_id: str) -> KeyState:
        state = self.lines[key_id].newest
        assert isinstance(state, KeyState)
        return state

    def first_use(self, key_id: str) -> int | None:
        """Return what Redis holds of the newest rotation, also while nobody can ask it."""
        rotation = self.newest(key_id).rotation
        if rotation is None:
            return None
        return self.line.held_first_use(self.tenant, key_id, rotation.started_at)
