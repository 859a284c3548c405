"""The limits as one instance enforces them alone while Redis is away: its share, in memory.

The rules are acquire.lua's and settle.lua's, to the same arithmetic; with one instance the
decisions are the same. With N instances every request weighs N times here, so that together they
admit what one would. A request that the plan allows but the share alone does not is admitted when
nothing else was: a share never turns a good request away for ever.

Thread-safe, and depends on nothing. What it admitted is told to Redis when that is back, by
`limiter.py`. Accounts are as many as the keys that were used: bounded by the keyring.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from api.limits.policy import (
    CONCURRENCY_RETRY_MS,
    LIMIT_NAMES,
    REFUSAL_CODES,
    Decision,
    Lease,
    LimitState,
    exceeded_for_ever,
    limit_states,
)
from auth.plans import Plan
from auth.principal import Principal

PARTS = 60_000  # of a unit: a limit of L a minute gives back L parts a millisecond
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Windows:
    """The UTC day and month of a moment."""

    day: str
    day_ends_ms: int
    month: str
    month_ends_ms: int
    month_days: int


def windows(now_ms: int) -> Windows:
    day = datetime.fromtimestamp(now_ms // 1000, UTC).replace(hour=0, minute=0, second=0)
    first = day.replace(day=1)
    next_month = (first + timedelta(days=32)).replace(day=1)
    return Windows(
        day=f"{day:%Y-%m-%d}",
        day_ends_ms=int(day.timestamp()) * 1000 + _DAY_MS,
        month=f"{day:%Y-%m}",
        month_ends_ms=int(next_month.timestamp()) * 1000,
        month_days=(next_month - first).days,
    )


@dataclass(slots=True)
class _Bucket:
    """What was spent, in parts; see common.lua for the queue that `places` index."""

    rate: int
    at_ms: int
    spent: int = 0
    drained: int = 0
    places: dict[str, int] = field(default_factory=dict)

    def advance(self, now_ms: int) -> None:
        flow = min(self.spent, max(0, now_ms - self.at_ms) * self.rate)
        self.spent -= flow
        self.drained += flow
        self.at_ms = max(self.at_ms, now_ms)

    def wait_ms(self, parts: int) -> int:
        missing = self.spent + parts - self.rate * PARTS
        return -(-missing // self.rate) if missing > 0 and self.spent else 0

    def left(self) -> int:
        return self.rate - -(-self.spent // PARTS)

    def full_in_ms(self) -> int:
        return -(-self.spent // self.rate)

    def charge(self, lease_id: str, parts: int) -> None:
        self.spent += parts
        self.places[lease_id] = self.drained + self.spent

    def give_back(self, lease_id: str, parts: int) -> None:
        place = self.places.pop(lease_id)
        parts = min(parts, max(0, place - self.drained))
        self.spent -= parts
        for later, its_place in self.places.items():
            if its_place > place:
                self.places[later] = its_place - parts


@dataclass(frozen=True, slots=True)
class _Held:
    expires_ms: int
    admitted_ms: int
    chars: int
    weight: int


@dataclass(slots=True)
class _Account:
    requests: _Bucket
    chars: _Bucket
    held: dict[str, _Held] = field(default_factory=dict)
    lapsed: dict[str, _Held] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)  # window name -> chars, weighted

    def count(self, at_ms: int, chars: int) -> None:
        window = windows(at_ms)
        for name in (window.day, window.month):
            self.used[name] = self.used.get(name, 0) + chars

    def start_from(self, at_ms: int, day_used: int, month_used: int) -> None:
        """Take these for what was used; what still runs here is not in them."""
        window = windows(at_ms)
        self.used = {window.day: day_used, window.month: month_used}
        for held in self.held.values():
            self.count(held.admitted_ms, held.chars * held.weight)

    def expire(self, now_ms: int) -> None:
        """Close what lapsed (remembered for a day) and forget windows that are over."""
        for lease_id in [i for i, held in self.held.items() if held.expires_ms <= now_ms]:
            held = self.lapsed[lease_id] = self.held.pop(lease_id)
            self.close(lease_id, held, 0, whole=False)
        self.lapsed = {
            i: held for i, held in self.lapsed.items() if held.expires_ms > now_ms - _DAY_MS
        }
        window = windows(now_ms)
        self.used = {name: self.used.get(name, 0) for name in (window.day, window.month)}

    def close(self, lease_id: str, held: _Held, used: int, *, whole: bool) -> None:
        unused = (held.chars - used) * held.weight
        self.chars.give_back(lease_id, unused * PARTS)
        self.requests.give_back(lease_id, held.weight * PARTS if whole else 0)
        self.count(held.admitted_ms, -unused)


class LocalLimiter:
    """Every limit of every key, counted in this process alone."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.instances = 1  # how many share each limit
        self._clock = clock
        self._lock = threading.Lock()
        self._accounts: dict[tuple[str, str], _Account] = {}
        self._known: dict[tuple[str, str], tuple[int, int, int]] = {}

    def acquire(
        self, principal: Principal, *, chars: int, lease_ms: int, lease_id: str
    ) -> Decision:
        """Charge the request and grant a lease, or refuse it and change nothing."""
        with self._lock:
            now_ms = self._now_ms()
            account = self._account(principal, now_ms)
            refusal = self._refusal(principal, account, chars, now_ms)
            if refusal is not None:
                return refusal
            weight = self.instances
            account.requests.charge(lease_id, weight * PARTS)
            account.chars.charge(lease_id, chars * weight * PARTS)
            account.count(now_ms, chars * weight)
            account.held[lease_id] = _Held(now_ms + lease_ms, now_ms, chars, weight)
            lease = Lease(lease_id, principal.tenant, principal.key_id, chars, now_ms, local=True)
            return Decision(lease, limits=self._states(principal, account, now_ms))

    def peek(self, principal: Principal, *, chars: int) -> Decision:
        """Say what `acquire` would decide, and charge nothing."""
        with self._lock:
            now_ms = self._now_ms()
            account = self._account(principal, now_ms)
            refusal = self._refusal(principal, account, chars, now_ms)
            return refusal or Decision(None, limits=self._states(principal, account, now_ms))

    def settle(self, lease: Lease, *, used_chars: int, whole: bool) -> None:
        """End a lease once: what was not used goes back. Unknown leases change nothing."""
        with self._lock:
            account = self._accounts.get((lease.tenant, lease.key_id))
            if account is None:
                return
            now_ms = self._now_ms()
            account.requests.advance(now_ms)
            account.chars.advance(now_ms)
            held = account.held.pop(lease.lease_id, None)
            if held is not None:
                account.close(lease.lease_id, held, used_chars, whole=whole)
                return
            late = account.lapsed.pop(lease.lease_id, None)
            if late is not None and late.expires_ms > now_ms - _DAY_MS:
                account.count(late.admitted_ms, used_chars * late.weight)

    def learn(self, principal: Principal, at_ms: int, day_used: int, month_used: int) -> None:
        """Note what Redis said was used of the quotas: an outage does not refill them."""
        self._known[principal.tenant, principal.key_id] = (at_ms, day_used, month_used)

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)

    def _account(self, principal: Principal, now_ms: int) -> _Account:
        """Return the key's account as it is now, less the leases that lapsed."""
        plan = principal.plan
        account = self._accounts.setdefault(
            (principal.tenant, principal.key_id),
            _Account(
                _Bucket(plan.requests_per_minute, now_ms), _Bucket(plan.chars_per_minute, now_ms)
            ),
        )
        account.requests.advance(now_ms)
        account.chars.advance(now_ms)
        account.requests.rate = plan.requests_per_minute
        account.chars.rate = plan.chars_per_minute
        known = self._known.pop((principal.tenant, principal.key_id), None)
        if known is not None:
            account.start_from(*known)
        account.expire(now_ms)
        return account

    def _refusal(
        self, principal: Principal, account: _Account, chars: int, now_ms: int
    ) -> Decision | None:
        never = exceeded_for_ever(principal.plan, chars)
        if never is not None:
            states = self._states(principal, account, now_ms)
            return Decision(None, "exceeds_plan", never, limits=states)
        waits = self._waits(principal.plan, account, chars, now_ms)
        wait_ms = max(waits)
        if wait_ms == 0:
            return None
        binding = LIMIT_NAMES[waits.index(wait_ms)]
        states = self._states(principal, account, now_ms)
        return Decision(None, REFUSAL_CODES[binding], binding, wait_ms, states)

    def _waits(self, plan: Plan, account: _Account, chars: int, now_ms: int) -> list[int]:
        """Return how long this very request has to wait for each limit, in ms."""
        window, parts = windows(now_ms), self.instances * PARTS

        def quota_wait(name: str, limit: int, ends_ms: int) -> int:
            used = account.used.get(name, 0)
            return ends_ms - now_ms if used and used + chars * self.instances > limit else 0

        return [
            account.requests.wait_ms(parts),
            account.chars.wait_ms(chars * parts),
            quota_wait(window.day, plan.chars_per_day, window.day_ends_ms),
            quota_wait(window.month, plan.chars_per_month, window.month_ends_ms),
            CONCURRENCY_RETRY_MS if len(account.held) >= self._slots(plan.concurrency) else 0,
        ]

    def _slots(self, concurrency: int) -> int:
        return max(1, concurrency // self.instances)

    def _states(
        self, principal: Principal, account: _Account, now_ms: int
    ) -> tuple[LimitState, ...]:
        plan, window, share = principal.plan, windows(now_ms), self.instances
        requests, chars = account.requests, account.chars
        day, month = (account.used.get(name, 0) for name in (window.day, window.month))
        day_ms = window.day_ends_ms - now_ms if day else 0
        month_ms = window.month_ends_ms - now_ms if month else 0
        left = [
            requests.left() // share,
            chars.left() // share,
            (plan.chars_per_day - day) // share,
            (plan.chars_per_month - month) // share,
            self._slots(plan.concurrency) - len(account.held),
        ]
        reset_ms = [requests.full_in_ms(), chars.full_in_ms(), day_ms, month_ms, 0]
        return limit_states(plan, left, reset_ms, window.month_days)
