"""How much may a key use: one Redis call decides a request, one more settles it.

Redis holds every counter and tells the time, so any number of instances admit together what one
would. When it is away a call costs at most 50 ms, once a second for the whole process (no retries,
a breaker); in between, and then, `outage` says what happens: `local` enforces this instance's
share, `closed` refuses, `open` admits. What Redis missed is told to it when it is back: requests
that were admitted without it, settlements that did not reach it, and charges of calls that timed
out but may have been applied. Nothing here raises because Redis is away but `usage`.

Thread-safe; needs no thread of its own.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import partial
from typing import Any

from api.ids import unique
from api.limits import questions
from api.limits.breaker import Breaker
from api.limits.local import LocalLimiter
from api.limits.policy import COMPLETE, REFUSED, Decision, Lease, Once, exceeded_for_ever
from api.limits.questions import Asked, Questions, Seen
from api.limits.redis_line import RedisAwayError, RedisLine, Script, bulk
from auth.ledger import DayUsage, days_of
from auth.principal import Principal, SecretRole
from auth.propagation_keys import ledger_name

TIMEOUT_SECONDS = 0.05
_PROBE_SECONDS = 1.0
_PROBE_MS = 1000
_HEARTBEAT_SECONDS = 10.0
_UNSETTLED_KEPT = 10_000
_UNSETTLED_AT_ONCE = 20


class LimiterUnavailableError(Exception):
    """Redis is away, and the question cannot be answered without it."""


class Outage(StrEnum):
    """What limits do while Redis is away."""

    LOCAL = "local"
    CLOSED = "closed"
    OPEN = "open"


class LimiterEvent(StrEnum):
    """What an operator wants to hear of; the first two deserve a log line, all a metric."""

    REDIS_LOST = "redis_lost"
    REDIS_BACK = "redis_back"
    DECIDED_WITHOUT_REDIS = "decided_without_redis"
    SETTLEMENT_DEFERRED = "settlement_deferred"
    SETTLEMENT_DROPPED = "settlement_dropped"  # too many were waiting; the log line remains


@dataclass(frozen=True, slots=True)
class _Settlement:
    lease: Lease
    used_chars: int
    whole: bool
    complete: bool = False


class RedisLimiter:
    """The limiter of one process."""

    def __init__(
        self,
        redis_url: str,
        *,
        outage: str = Outage.LOCAL,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        timeout_seconds: float = TIMEOUT_SECONDS,
        on_event: Callable[[LimiterEvent, str], None] = lambda _event, _detail: None,
        max_instances: int = 1,
        redis_clock_ms: Callable[[], int] | None = None,
    ) -> None:
        """Connect to nothing yet. `on_event` is told of outages: (event, detail for the log).

        `max_instances` is how many are taken to share the limits until Redis has told.
        `redis_clock_ms` stands in for Redis's own clock and is for tests that move time.
        """
        self._outage = Outage(outage)
        self._clock, self._monotonic, self._redis_clock_ms = clock, monotonic, redis_clock_ms
        self._on_event = on_event
        self._acquire_script, self._settle_script = Script("acquire.lua"), Script("settle.lua")
        self._heartbeat_script = Script("heartbeat.lua")
        self._line, self._questions = RedisLine(redis_url, timeout_seconds), Questions()
        self._breaker = Breaker(_PROBE_SECONDS, monotonic)
        self._local, self._max_instances = LocalLimiter(clock, max_instances), max_instances
        self._unsettled: deque[_Settlement] = deque()
        self._instance = unique(16)
        self._heartbeat_at, self._first_heard_at = 0.0, math.inf

    def acquire(
        self,
        principal: Principal,
        *,
        chars: int,
        lease_seconds: float,
        address: str,
        once: Once | None = None,
    ) -> Decision:
        """Charge the whole request and grant a lease, or charge nothing and say why.

        `chars` is the most that the request may use. A lease that is not settled within
        `lease_seconds` gives everything back by itself. With `once`, a request that was made
        before is charged only for what it was not charged then, and `seed` is that of then; what
        cannot be known while Redis is away is refused.
        """
        if chars < 0 or lease_seconds <= 0:
            raise ValueError("chars must be at least 0 and lease_seconds positive")
        lease_ms = int(lease_seconds * 1000)
        seen = Seen()
        while True:
            paid_chars = max(0, seen.paid_chars)
            wanted = seen.unpaid(chars)
            # The id tells what was reserved, so a lease can be closed knowing nothing else of it.
            lease_id = f"{unique(24)}.{wanted}.{lease_ms}"
            sent = self._may_ask()
            reply = None
            if sent:
                asked = Asked("acquire", lease_id, lease_ms, wanted, address)
                reply = self._decide(principal, asked, once, seen)
            known = None if reply is None else Seen.told(reply)
            if known is not None:
                seen = known
                continue
            lease = Lease(
                lease_id,
                principal.tenant,
                principal.key_id,
                wanted,
                int(self._clock() * 1000) if reply is None else reply[5],
                local=reply is None,
                capped=principal.caps is not None,
                once=once.name if once else "",
                paid_chars=paid_chars,
            )
            break
        if reply is None:
            return self._without_redis(principal, lease, lease_ms, sent=sent)
        decision = questions.decision(principal, reply, chars, lease, seen.seed)
        if decision.lease is not None:
            self._local.learn(principal, reply[5], questions.quotas_used(principal, reply))
        return decision

    def peek(
        self,
        principal: Principal,
        *,
        chars: int = 0,
        address: str = "",
        once: Once | None = None,
    ) -> Decision:
        """Say what `acquire` would decide; charge nothing.

        Revocation and rotation are decided as for any request. While Redis is away the answer
        holds no limits, and a code only where `acquire` would refuse whatever was left.
        """
        seen = Seen()
        while self._breaker.may_try():
            cost = seen.unpaid(chars)
            reply = self._decide(principal, Asked("peek", "", 0, cost, address), once, seen)
            if reply is None:
                break
            known = Seen.told(reply)
            if known is None:
                decision = questions.decision(principal, reply, chars, None, seen.seed)
                return decision._replace(seed=seen.seed, cost_chars=cost)
            seen = known
        self._on_event(LimiterEvent.DECIDED_WITHOUT_REDIS, self._outage)
        if self._rotated_out(principal):
            return Decision(None, "invalid_key", sunset_at=_sunset(principal))
        if once is not None:
            return Decision(None, "limiter_unavailable", retry_after_ms=_PROBE_MS)
        return Decision(None, sunset_at=_sunset(principal))

    def settle(self, lease: Lease, *, used_chars: int, finish: str) -> None:
        """Charge `used_chars` of what was reserved and free the slot. Safe to repeat.

        `finish` tells how the request ended; "refused" (admitted, but never begun) gives the
        whole of it back. When Redis is away it is told later.
        """
        self.settling(lease, used_chars=used_chars, finish=finish)()

    def settling(self, lease: Lease, *, used_chars: int, finish: str) -> Callable[[], None]:
        """Begin to `settle`; what is returned has to be called, and waits until it is done."""
        whole = finish == REFUSED
        used = 0 if whole else min(max(0, used_chars), lease.reserved_chars)
        settlement = _Settlement(lease, used, whole, finish in COMPLETE)
        if lease.local:
            self._local.settle(lease, used_chars=used, whole=whole)
        if not self._breaker.may_try():
            self._defer(settlement)
            return _nothing
        return partial(self._settled, settlement, self._begin_to_tell(settlement))

    def _settled(self, settlement: _Settlement, told: Callable[[], Any]) -> None:
        if self._call(told) is None:
            self._defer(settlement)
        else:
            self._tell_unsettled()

    def usage(self, tenant: str, key_ids: Iterable[str], first: date, last: date) -> list[DayUsage]:
        """Return what the keys used on each day. Raise LimiterUnavailableError."""
        key_ids = list(key_ids)
        names = [ledger_name(tenant, key_id) for key_id in key_ids]
        ledgers: list[dict[bytes, bytes]] | None = None
        if self._breaker.may_try():
            ledgers = self._call(lambda: self._line.read_hashes(names))
        if ledgers is None:
            raise LimiterUnavailableError("usage is kept in Redis, which is away")
        return [
            day
            for key_id, ledger in zip(key_ids, ledgers, strict=True)
            for day in days_of(key_id, ledger, first, last)
        ]

    def ping(self) -> bool:
        """Return whether Redis takes writes; asks it at most once a second while it does not.

        What it writes is this instance's heartbeat, so one that is only probed counts as well.
        """
        return self._breaker.may_try() and self._heartbeat()

    def close(self) -> None:
        """Tell Redis what it still has to know, if it is there, and close the connections."""
        while self._unsettled and self._breaker.may_try():
            self._tell_unsettled()
        self._line.close()

    def _decide(
        self,
        principal: Principal,
        asked: Asked,
        once: Once | None = None,
        seen: Seen | None = None,
    ) -> list[Any] | None:
        question = self._questions.acquire(principal, self._redis_now(), asked, once, seen)
        reply: list[Any] | None = self._run(self._acquire_script, question)
        if reply is not None and self._monotonic() >= self._heartbeat_at:
            self._heartbeat()
        return reply

    def _may_ask(self) -> bool:
        """Return whether to ask Redis; what hung is told first: it may hold what is asked for."""
        if not self._breaker.may_try():
            return False
        if not self._unsettled:
            return True
        self._tell_unsettled()
        return self._breaker.closed

    def _heartbeat(self) -> bool:
        """Be heard of, and hear how many share the limits if Redis goes away."""
        now = self._monotonic()
        self._heartbeat_at = now + _HEARTBEAT_SECONDS
        question = bulk(1, "qg:instances", self._redis_now(), self._instance)
        alive = self._run(self._heartbeat_script, (question, 4))
        if alive is None:
            return False
        self._first_heard_at = min(now, self._first_heard_at)
        # Those that started together with this one may not have told of themselves yet.
        fresh = now - self._first_heard_at < _HEARTBEAT_SECONDS
        self._local.instances = max(alive, self._max_instances) if fresh else alive
        return True

    def _without_redis(
        self, principal: Principal, lease: Lease, lease_ms: int, *, sent: bool
    ) -> Decision:
        """Decide by the outage mode. `sent`: Redis may have charged the request all the same."""
        self._on_event(LimiterEvent.DECIDED_WITHOUT_REDIS, self._outage)
        chars = lease.reserved_chars
        never = exceeded_for_ever(principal, chars)
        if self._rotated_out(principal):
            decision = Decision(None, "invalid_key")
        elif self._outage is Outage.CLOSED or lease.once:
            # Whether it was made before, only Redis knows: who asked to be charged once can wait.
            decision = Decision(None, "limiter_unavailable", retry_after_ms=_PROBE_MS)
        elif never is not None:
            decision = Decision(None, "exceeds_plan", never)
        elif self._outage is Outage.OPEN:
            decision = Decision(lease)
        else:
            decision = self._local.acquire(
                principal, chars=chars, lease_ms=lease_ms, lease_id=lease.lease_id
            )
        if sent and decision.lease is None:
            self._defer(_Settlement(lease, 0, whole=True))
        # This instance alone cannot say what is left: no numbers rather than wrong ones.
        return decision._replace(limits=(), sunset_at=_sunset(principal))

    def _redis_now(self) -> int | str:
        """Return what the scripts take for the time: nothing means Redis's own clock."""
        return self._redis_clock_ms() if self._redis_clock_ms else ""

    def _rotated_out(self, principal: Principal) -> bool:
        deadline = _sunset(principal)
        return deadline is not None and self._clock() >= deadline

    def _tell(self, settlement: _Settlement) -> bool:
        return self._call(self._begin_to_tell(settlement)) is not None

    def _begin_to_tell(self, settlement: _Settlement) -> Callable[[], Any]:
        question = questions.settle(
            settlement.lease,
            clock=self._redis_now(),
            used_chars=settlement.used_chars,
            whole=settlement.whole,
            complete=settlement.complete,
        )
        return self._line.begin(self._settle_script, *question)

    def _defer(self, settlement: _Settlement) -> None:
        self._on_event(LimiterEvent.SETTLEMENT_DEFERRED, settlement.lease.lease_id)
        self._unsettled.append(settlement)
        if len(self._unsettled) > _UNSETTLED_KEPT:
            dropped = self._unsettled.popleft()
            self._on_event(LimiterEvent.SETTLEMENT_DROPPED, dropped.lease.lease_id)

    def _tell_unsettled(self) -> None:
        """Tell Redis some of what it missed; a request pays for no more than a few."""
        for _ in range(_UNSETTLED_AT_ONCE):
            try:
                settlement = self._unsettled.popleft()
            except IndexError:
                return
            if not self._tell(settlement):
                self._unsettled.appendleft(settlement)
                return

    def _run(self, script: Script, question: tuple[bytes, int]) -> Any | None:
        rest, count = question
        return self._call(lambda: self._line.run(script, rest, count))

    def _call(self, call: Callable[[], Any]) -> Any | None:
        """Make a call that the breaker allowed. Return None when Redis is away."""
        try:
            answer = call()
        except RedisAwayError as exc:
            if self._breaker.failed():
                self._on_event(LimiterEvent.REDIS_LOST, str(exc))
            return None
        if self._breaker.succeeded():
            self._on_event(LimiterEvent.REDIS_BACK, "")
        return answer


def _nothing() -> None:
    """Nothing is to be waited for."""


def _sunset(principal: Principal) -> int | None:
    """Return when the caller's old secret stops at the latest; None if it used another."""
    if principal.secret_role is not SecretRole.OLD or principal.rotation is None:
        return None
    return principal.rotation.deadline
