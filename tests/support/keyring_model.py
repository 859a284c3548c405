"""What callers may be told of keys: every state that each key had, and what an instance must know.

An instance holds some state of a key between the oldest that it may still believe in and the
newest; the model says which answers those states allow. While all is well only one is left.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

# What is promised, in numbers of its own: the code's may be wrong.
LATE_SECONDS = 31  # without Redis a change is seen within 30 s
RETRY_SECONDS = 1  # a store that came back is asked again
MAX_AGE_SECONDS = 86_400  # an older keyring lets nobody in


@dataclass(frozen=True)
class Rotation:
    """As a rotation was asked for."""

    started_at: int
    deadline: float
    grace: float


@dataclass(frozen=True)
class KeyState:
    """A key between two changes: its whole keys, oldest first."""

    texts: tuple[str, ...]
    rotation: Rotation | None = None
    revoked: bool = False

    def ends(self, first_use: int | None) -> float:
        """Return when the older of two secrets ends."""
        assert self.rotation is not None
        grace_ends = float("inf") if first_use is None else first_use + self.rotation.grace
        return min(self.rotation.deadline, grace_ends)

    def settled(self, now: float, first_use: int | None) -> KeyState:
        """Return the state without a rotation that is over."""
        if self.rotation is None or now < self.ends(first_use):
            return self
        return KeyState(self.texts[-1:], None, self.revoked)


@dataclass
class Timeline:
    """The states of one key, or of the tenant (True: active), and when each came."""

    states: list[object]
    since: list[float]
    told: list[bool]  # Redis heard of it at once
    marked: bool = False  # revoked in Redis

    @property
    def newest(self) -> object:
        return self.states[-1]

    def change(self, state: object, now: float, *, told: bool) -> None:
        self.states.append(state)
        self.since.append(now)
        self.told.append(told)


@dataclass
class Instance:
    """What one instance must know, by what it could have read when it was asked."""

    readable: bool = True
    unreadable_until: float = float("-inf")
    heard_at: float = 0.0  # when Redis or the store may last have confirmed its keyring ...
    well_at: float = 0.0  # ... and when both surely did
    known: dict[str, int] = field(default_factory=dict)  # by timeline: the oldest possible state

    def learn(self, name: str, line: Timeline, now: float, *, redis_up: bool) -> list[object]:
        """Return the states that the instance may hold when it is asked now."""
        quiet = now - self.unreadable_until
        for index in range(self.known.get(name, 0) + 1, len(line.states)):
            heard = redis_up and line.told[index] and quiet > RETRY_SECONDS
            looked = min(quiet, now - line.since[index]) > LATE_SECONDS
            if self.readable and (heard or looked):
                self.known[name] = index
        return line.states[self.known.get(name, 0) :]

    def asked(self, now: float, *, redis_up: bool) -> None:
        """Take note that it answered a request."""
        if redis_up or self.readable:
            self.heard_at = now
        if redis_up and self.readable:
            self.well_at = now

    def may_be_behind(self, now: float) -> bool:
        """Say whether it may know of a newer keyring that it cannot read."""
        return not self.readable or now - self.unreadable_until <= RETRY_SECONDS

    def may_be_too_old(self, now: float) -> bool:
        return now - self.well_at > MAX_AGE_SECONDS

    def must_be_too_old(self, now: float, *, redis_up: bool) -> bool:
        nothing = not redis_up and not self.readable
        return nothing and now - self.heard_at > MAX_AGE_SECONDS


def rotated(
    state: KeyState, text: str, rotation: Rotation, now: float, first_use: int | None
) -> KeyState:
    """Return the state after a rotation; a deadline of now ends the old secret."""
    current = state.settled(now, first_use)
    if rotation.deadline <= now:
        return KeyState((text,))
    return replace(current, texts=(current.texts[-1], text), rotation=rotation)
