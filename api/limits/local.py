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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from api.limits.policy import (
    CONCURRENCY_RETRY_MS,
    REFUSAL_CODES,
    SCOPED_NAMES,
    Decision,
    Lease,
    Limits,
    LimitState,
    exceeded_for_ever,
    limit_states,
    scopes_of,
)
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

    def limit(self, rate: int) -> None:
        """Drain at this rate from here on; 0: there is no limit now, go on as before."""
        self.rate = rate or self.rate

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
        place = self.places.pop(lease_id, None)
        if place is None:
            return
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


_Scope = tuple[str, str]  # a tenant and one of its keys, or no key: the tenant's own


@dataclass(slots=True)
class _Account:
    """What one scope used: a key, or a tenant that has caps."""

    requests: _Bucket
    chars: _Bucket
    limits: Limits
    held: dict[str, _Held] = field(default_factory=dict)
    lapsed: dict[str, _Held] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)  # window name -> chars, weighted

    def look(self, limits: Limits, now_ms: int) -> None:
        """Be as of now, under these limits."""
        self.requests.advance(now_ms)
        self.chars.advance(now_ms)
        self.limits = limits
        self.requests.limit(limits[0])
        self.chars.limit(limits[1])

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

    def waits(self, chars: int, share: int, now_ms: int) -> list[int]:
        """Return how long this very request has to wait for each limit, in ms."""
        window, parts = windows(now_ms), share * PARTS
        per_minute, chars_per_minute, per_day, per_month, concurrency = self.limits

        def quota_wait(name: str, limit: int, ends_ms: int) -> int:
            used = self.used.get(name, 0)
            over = limit and used and used + chars * share > limit
            return ends_ms - now_ms if over else 0

        full = concurrency and len(self.held) >= _slots(concurrency, share)
        return [
            self.requests.wait_ms(parts) if per_minute else 0,
            self.chars.wait_ms(chars * parts) if chars_per_minute else 0,
            quota_wait(window.day, per_day, window.day_ends_ms),
            quota_wait(window.month, per_month, window.month_ends_ms),
            CONCURRENCY_RETRY_MS if full else 0,
        ]

    def admit(self, lease_id: str, held: _Held) -> None:
        if self.limits[0]:
            self.requests.charge(lease_id, held.weight * PARTS)
        if self.limits[1]:
            self.chars.charge(lease_id, held.chars * held.weight * PARTS)
        self.count(held.admitted_ms, held.chars * held.weight)
        self.held[lease_id] = held

    def settle(self, lease_id: str, used: int, now_ms: int, *, whole: bool) -> None:
        self.requests.advance(now_ms)
        self.chars.advance(now_ms)
        held = self.held.pop(lease_id, None)
        if held is not None:
            self.close(lease_id, held, used, whole=whole)
            return
        late = self.lapsed.pop(lease_id, None)
        if late is not None and late.expires_ms > now_ms - _DAY_MS:
            self.count(late.admitted_ms, used * late.weight)

    def close(self, lease_id: str, held: _Held, used: int, *, whole: bool) -> None:
        unused = (held.chars - used) * held.weight
        self.chars.give_back(lease_id, unused * PARTS)
        self.requests.give_back(lease_id, held.weight * PARTS if whole else 0)
        self.count(held.admitted_ms, -unused)

    def told(self, share: int, now_ms: int) -> tuple[list[int], list[int]]:
        """Return for each limit what is left of this instance's share, and ms until whole."""
        window, requests, chars = windows(now_ms), self.requests, self.chars
        day, month = (self.used.get(name, 0) for name in (window.day, window.month))
        left = [
            requests.left() // share,
            chars.left() // share,
            (self.limits[2] - day) // share,
            (self.limits[3] - month) // share,
            _slots(self.limits[4], share) - len(self.held),
        ]
        day_ms = window.day_ends_ms - now_ms if day else 0
        month_ms = window.month_ends_ms - now_ms if month else 0
        return left, [requests.full_in_ms(), chars.full_in_ms(), day_ms, month_ms, 0]


def _slots(concurrency: int, share: int) -> int:
    return max(1, concurrency // share)


class LocalLimiter:
    """Every limit of every key and tenant, counted in this process alone."""

    def __init__(self, clock: Callable[[], float], instances: int = 1) -> None:
        self.instances = instances  # how many share each limit
        self._clock = clock
        self._lock = threading.Lock()
        self._accounts: dict[_Scope, _Account] = {}
        self._known: dict[_Scope, tuple[int, int, int]] = {}

    def acquire(
        self, principal: Principal, *, chars: int, lease_ms: int, lease_id: str
    ) -> Decision:
        """Charge the request and grant a lease, or refuse it and change nothing."""
        with self._lock:
            now_ms = self._now_ms()
            accounts = self._look(principal, now_ms)
            refusal = self._refusal(principal, accounts, chars, now_ms)
            if refusal is not None:
                return refusal
            held = _Held(now_ms + lease_ms, now_ms, chars, self.instances)
            for account in accounts:
                account.admit(lease_id, held)
            capped = len(accounts) > 1
            lease = Lease(
                *(lease_id, principal.tenant, principal.key_id, chars, now_ms),
                local=True,
                capped=capped,
            )
            return Decision(lease, limits=self._states(accounts, now_ms))

    def peek(self, principal: Principal, *, chars: int) -> Decision:
        """Say what `acquire` would decide, and charge nothing."""
        with self._lock:
            now_ms = self._now_ms()
            accounts = self._look(principal, now_ms)
            refusal = self._refusal(principal, accounts, chars, now_ms)
            return refusal or Decision(None, limits=self._states(accounts, now_ms))

    def settle(self, lease: Lease, *, used_chars: int, whole: bool) -> None:
        """End a lease once: what was not used goes back. Unknown leases change nothing."""
        with self._lock:
            now_ms = self._now_ms()
            for scope in _scopes(lease.tenant, lease.key_id, capped=lease.capped):
                account = self._accounts.get(scope)
                if account is not None:
                    account.settle(lease.lease_id, used_chars, now_ms, whole=whole)

    def learn(self, principal: Principal, at_ms: int, used: Iterable[tuple[int, int]]) -> None:
        """Note what Redis said was used of the quotas: an outage does not refill them.

        `used` is of the day and of the month, for the key and then for the tenant.
        """
        self._known[principal.tenant, principal.key_id], *tenants = (
            (at_ms, day, month) for day, month in used
        )
        for tenants_own in tenants:
            self._known[principal.tenant, ""] = tenants_own

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)

    def _look(self, principal: Principal, now_ms: int) -> list[_Account]:
        """Return the accounts that limit the caller, as they are now, less what lapsed."""
        limits = scopes_of(principal)
        scopes = _scopes(principal.tenant, principal.key_id, capped=len(limits) > 1)
        accounts = []
        for scope, its_limits in zip(scopes, limits, strict=True):
            account = self._accounts.get(scope)
            if account is None:
                requests, chars = (_Bucket(rate or 1, now_ms) for rate in its_limits[:2])
                account = self._accounts[scope] = _Account(requests, chars, its_limits)
            account.look(its_limits, now_ms)
            known = self._known.pop(scope, None)
            if known is not None:
                account.start_from(*known)
            account.expire(now_ms)
            accounts.append(account)
        return accounts

    def _refusal(
        self, principal: Principal, accounts: list[_Account], chars: int, now_ms: int
    ) -> Decision | None:
        never = exceeded_for_ever(principal, chars)
        if never is not None:
            return Decision(None, "exceeds_plan", never, limits=self._states(accounts, now_ms))
        waits = [
            one for account in accounts for one in account.waits(chars, self.instances, now_ms)
        ]
        wait_ms = max(waits)
        if wait_ms == 0:
            return None
        binding = SCOPED_NAMES[waits.index(wait_ms)]
        states = self._states(accounts, now_ms)
        return Decision(None, REFUSAL_CODES[binding], binding, wait_ms, states)

    def _states(self, accounts: list[_Account], now_ms: int) -> tuple[LimitState, ...]:
        told = [account.told(self.instances, now_ms) for account in accounts]
        return limit_states(
            [account.limits for account in accounts],
            [one for left, _ in told for one in left],
            [one for _, reset_ms in told for one in reset_ms],
            windows(now_ms).month_days,
        )


def _scopes(tenant: str, key_id: str, *, capped: bool) -> tuple[_Scope, ...]:
    key = (tenant, key_id)
    return (key, (tenant, "")) if capped else (key,)
