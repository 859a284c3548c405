"""What the limits of one key mean, written down as plainly as possible and in no hurry.

A bucket is a queue of charges that drains from its front, in exact fractions of a unit. Quotas
are sums over charges by their UTC date. Nothing here is shared with the limiters under test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil, floor

from auth.plans import Plan

DAY_MS = 86_400_000


@dataclass
class Bucket:
    per_minute: int
    queue: list[list] = field(default_factory=list)  # [lease id, units that have not drained]

    @property
    def level(self) -> Fraction:
        return sum((units for _, units in self.queue), Fraction(0))

    def drain(self, ms: int) -> None:
        flow = Fraction(self.per_minute * ms, 60_000)
        while self.queue and flow:
            step = min(flow, self.queue[0][1])
            self.queue[0][1] -= step
            flow -= step
            if not self.queue[0][1]:
                self.queue.pop(0)

    def charge(self, lease_id: str, units: int) -> None:
        self.queue.append([lease_id, Fraction(units)])

    def give_back(self, lease_id: str, units: int) -> None:
        for entry in self.queue:
            if entry[0] == lease_id:
                entry[1] -= min(entry[1], Fraction(units))

    def admits(self, units: int, after_ms: int = 0) -> bool:
        left = max(Fraction(0), self.level - Fraction(self.per_minute * after_ms, 60_000))
        return left + units <= self.per_minute


@dataclass
class Charge:
    admitted_ms: int
    expires_ms: int
    reserved: int
    counted: int  # what the calendar holds of it
    state: str = "running"  # then lapsed, then settled


def day_of(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d")


@dataclass
class KeyModel:
    """One key: what it used, and whether it may use more."""

    plan: Plan
    now_ms: int
    requests: Bucket = field(init=False)
    chars: Bucket = field(init=False)
    charges: dict[str, Charge] = field(default_factory=dict)
    requests_by_day: dict[str, int] = field(default_factory=dict)
    refused_by_day: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.requests = Bucket(self.plan.requests_per_minute)
        self.chars = Bucket(self.plan.chars_per_minute)

    def advance(self, ms: int) -> None:
        self.now_ms += ms
        self.requests.drain(ms)
        self.chars.drain(ms)

    def look(self, plan: Plan) -> None:
        """Any question about the key notices a changed plan and the leases that lapsed."""
        self.plan = plan
        self.requests.per_minute, self.chars.per_minute = (
            plan.requests_per_minute,
            plan.chars_per_minute,
        )
        for lease_id, charge in self.running().items():
            if charge.expires_ms <= self.now_ms:
                self.chars.give_back(lease_id, charge.reserved)
                charge.state, charge.counted = "lapsed", 0

    def running(self) -> dict[str, Charge]:
        return {i: charge for i, charge in self.charges.items() if charge.state == "running"}

    def counted(self, prefix: str) -> int:
        return sum(
            charge.counted
            for charge in self.charges.values()
            if day_of(charge.admitted_ms).startswith(prefix)
        )

    def refusing(self, chars: int, after_ms: int = 0) -> set[str]:
        """Return the limits that refuse `chars` then, if nothing but time happens before."""
        then = day_of(self.now_ms + after_ms)
        refusing = set()
        if not self.requests.admits(1, after_ms):
            refusing.add("requests_per_minute")
        if not self.chars.admits(chars, after_ms):
            refusing.add("chars_per_minute")
        if self.counted(then) + chars > self.plan.chars_per_day:
            refusing.add("chars_per_day")
        if self.counted(then[:7]) + chars > self.plan.chars_per_month:
            refusing.add("chars_per_month")
        if len(self.running()) >= self.plan.concurrency:
            refusing.add("concurrency")
        return refusing

    def exceeds(self, chars: int) -> bool:
        plan = self.plan
        return chars > min(
            plan.max_num_chars, plan.chars_per_minute, plan.chars_per_day, plan.chars_per_month
        )

    def admit(self, lease_id: str, chars: int, lease_ms: int) -> None:
        self.requests.charge(lease_id, 1)
        self.chars.charge(lease_id, chars)
        self.charges[lease_id] = Charge(self.now_ms, self.now_ms + lease_ms, chars, chars)
        today = day_of(self.now_ms)
        self.requests_by_day[today] = self.requests_by_day.get(today, 0) + 1

    def refuse(self) -> None:
        today = day_of(self.now_ms)
        self.refused_by_day[today] = self.refused_by_day.get(today, 0) + 1

    def settle(self, lease_id: str, used: int, *, whole: bool) -> None:
        charge = self.charges[lease_id]
        if charge.state == "running":
            self.chars.give_back(lease_id, charge.reserved - used)
            if whole:
                self.requests.give_back(lease_id, 1)
                self.requests_by_day[day_of(charge.admitted_ms)] -= 1
            charge.state, charge.counted = "settled", used
        elif charge.state == "lapsed":
            if charge.expires_ms > self.now_ms - DAY_MS:
                charge.counted = used
            charge.state = "settled"

    def remaining(self) -> list[int]:
        """Return what is left of each limit, in the order they are told."""
        today = day_of(self.now_ms)
        left = [
            floor(self.plan.requests_per_minute - self.requests.level),
            floor(self.plan.chars_per_minute - self.chars.level),
            self.plan.chars_per_day - self.counted(today),
            self.plan.chars_per_month - self.counted(today[:7]),
            self.plan.concurrency - len(self.running()),
        ]
        return [max(0, value) for value in left]

    def full_in_ms(self) -> list[int]:
        """Return when each of the two rates is whole again."""
        return [
            ceil(bucket.level * 60_000 / bucket.per_minute)
            for bucket in (self.requests, self.chars)
        ]

    def ledger(self) -> dict[str, tuple[int, int, int]]:
        """Return characters, requests and refusals by day."""
        days = {day_of(charge.admitted_ms) for charge in self.charges.values()}
        days |= set(self.refused_by_day)
        return {
            day: (
                self.counted(day),
                self.requests_by_day.get(day, 0),
                self.refused_by_day.get(day, 0),
            )
            for day in days
        }
