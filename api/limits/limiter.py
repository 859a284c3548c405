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

import hashlib
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from api.limits.breaker import Breaker
from api.limits.local import LocalLimiter
from api.limits.policy import (
    COMPLETE,
    CONCURRENCY_RETRY_MS,
    REFUSAL_CODES,
    REFUSED,
    SCOPED_NAMES,
    Decision,
    Lease,
    Once,
    exceeded_for_ever,
    limit_states,
    scopes_of,
)
from api.limits.usage import DayUsage, days_of
from auth.principal import Principal, SecretRole
from auth.propagation_keys import (
    keyring_pointer_copy,
    last_used,
    ledger_name,
    revoked_marker,
    rotation_first_use,
    tenant_base,
    tenant_group,
)

TIMEOUT_SECONDS = 0.05
_MAX_CONNECTIONS = 1000  # one for each thread that is inside a call: more than any server runs
_PROBE_SECONDS = 1.0
_HEARTBEAT_SECONDS = 10.0
_UNSETTLED_KEPT = 10_000
_UNSETTLED_AT_ONCE = 20
_IN_PROGRESS_RETRY_MS = 1000  # it ends when it ends: ask again soon
_WITHOUT_LIMITS = frozenset({b"invalid_key", b"request_in_progress", b"idempotency_key_reused"})


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


def storage_options(timeout_seconds: float = TIMEOUT_SECONDS) -> dict[str, Any]:
    """Return how every Redis client on the request path is set: short time-outs, no retries."""
    return {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
    }


@dataclass(frozen=True, slots=True)
class _Settlement:
    lease: Lease
    used_chars: int
    whole: bool
    complete: bool = False


@dataclass(frozen=True, slots=True)
class _Seen:
    """What Redis said of an earlier request with the same idempotency key."""

    paid_chars: int = -1
    complete: bool = False
    seed: int | None = None


class _Script:
    """A Lua script and its digest; the common part comes before it."""

    def __init__(self, name: str) -> None:
        here = Path(__file__)
        parts = (here.with_name("common.lua"), here.with_name(name))
        self.text = "\n".join(part.read_text(encoding="utf-8") for part in parts)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


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
        redis_clock_ms: Callable[[], int] | None = None,
    ) -> None:
        """Connect to nothing yet. `on_event` is told of outages: (event, detail for the log).

        `redis_clock_ms` stands in for Redis's own clock and is for tests that move time.
        """
        self._outage = Outage(outage)
        self._clock, self._monotonic, self._redis_clock_ms = clock, monotonic, redis_clock_ms
        self._on_event = on_event
        self._acquire_script, self._settle_script = _Script("acquire.lua"), _Script("settle.lua")
        self._heartbeat_script = _Script("heartbeat.lua")
        # RESP2 and no driver info: a new connection asks its first question without a handshake.
        # Any: redis-py's own types do not tell its blocking answers from its awaitable ones.
        self._redis: Any = redis.Redis.from_url(
            redis_url,
            protocol=2,
            driver_info=None,
            max_connections=_MAX_CONNECTIONS,
            **storage_options(timeout_seconds),
        )
        self._breaker = Breaker(_PROBE_SECONDS, monotonic)
        self._local = LocalLimiter(clock)
        self._unsettled: deque[_Settlement] = deque()
        self._instance = secrets.token_hex(8)
        self._heartbeat_at = 0.0

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
        seen = _Seen()
        while True:
            paid_chars = max(0, seen.paid_chars)
            wanted = 0 if seen.complete else max(0, chars - paid_chars)
            # The id tells what was reserved, so a lease can be closed knowing nothing else of it.
            lease = Lease(
                f"{secrets.token_hex(12)}.{wanted}.{lease_ms}",
                *(principal.tenant, principal.key_id, wanted),
                admitted_at_ms=int(self._clock() * 1000),
                capped=principal.caps is not None,
                once=once.name if once else "",
                paid_chars=paid_chars,
            )
            sent = self._may_ask()
            reply = (
                self._decide(
                    principal, ("acquire", lease.lease_id, lease_ms, wanted), address, once, seen
                )
                if sent
                else None
            )
            if reply is None:
                return self._without_redis(principal, lease, lease_ms, sent=sent)
            if reply[0] != b"known":
                break
            seen = _Seen(reply[7], reply[8] == 1, int(reply[9]))
        decision = _decision(principal, reply, chars)
        if decision.code is not None:
            return decision
        lease = replace(lease, admitted_at_ms=reply[5])
        self._local.learn(principal, lease.admitted_at_ms, _quotas_used(principal, reply))
        return replace(decision, lease=lease, seed=seen.seed)

    def peek(self, principal: Principal, *, chars: int = 0, address: str = "") -> Decision:
        """Say what `acquire` would decide; charge nothing.

        Revocation and rotation are decided as for any request. While Redis is away the answer
        holds no limits, and a code only where `acquire` would refuse whatever was left.
        """
        reply = None
        if self._breaker.may_try():
            reply = self._decide(principal, ("peek", "", 0, chars), address)
        if reply is not None:
            return _decision(principal, reply, chars)
        self._on_event(LimiterEvent.DECIDED_WITHOUT_REDIS, self._outage)
        if self._rotated_out(principal):
            return Decision(None, "invalid_key", sunset_at=_sunset(principal))
        return Decision(None, sunset_at=_sunset(principal))

    def settle(self, lease: Lease, *, used_chars: int, finish: str) -> None:
        """Charge `used_chars` of what was reserved and free the slot. Safe to repeat.

        `finish` tells how the request ended; "refused" (admitted, but never begun) gives the
        whole of it back. When Redis is away it is told later.
        """
        whole = finish == REFUSED
        used = 0 if whole else min(max(0, used_chars), lease.reserved_chars)
        settlement = _Settlement(lease, used, whole, finish in COMPLETE)
        if lease.local:
            self._local.settle(lease, used_chars=used, whole=whole)
        if self._breaker.may_try() and self._tell(settlement):
            self._tell_unsettled()
        else:
            self._defer(settlement)

    def usage(self, tenant: str, key_ids: Iterable[str], first: date, last: date) -> list[DayUsage]:
        """Return what the keys used on each day. Raise LimiterUnavailableError."""
        key_ids = list(key_ids)
        ledgers = self._ledgers(tenant, key_ids)
        return [
            day
            for key_id, ledger in zip(key_ids, ledgers, strict=True)
            for day in days_of(key_id, ledger, first, last)
        ]

    def ping(self) -> bool:
        """Return whether Redis answers; asks it at most once a second while it does not."""
        return self._breaker.may_try() and self._call(self._redis.ping) is not None

    def close(self) -> None:
        """Tell Redis what it still has to know, if it is there, and close the connections."""
        while self._unsettled and self._breaker.may_try():
            self._tell_unsettled()
        self._redis.close()

    def _decide(
        self,
        principal: Principal,
        arguments: tuple[str | int, ...],
        address: str,
        once: Once | None = None,
        seen: _Seen | None = None,
    ) -> list[Any] | None:
        rotation, scopes = principal.rotation, scopes_of(principal)
        chars = int(arguments[-1])
        keys = (
            revoked_marker(principal.tenant, principal.key_id),
            keyring_pointer_copy(principal.keyring_shard, tenant_group(principal.tenant)),
            rotation_first_use(
                principal.tenant, principal.key_id, rotation.started_at if rotation else 0
            ),
            last_used(principal.tenant, principal.key_id),
            *_state_names(principal.tenant, principal.key_id, capped=len(scopes) > 1),
            *((_record_name(principal.tenant, principal.key_id, once.name),) if once else ()),
        )
        reply = self._run(
            self._acquire_script,
            keys,
            (
                self._redis_now(),
                *arguments,
                1 if exceeded_for_ever(principal, chars) else 0,
                address,
                str(principal.secret_role) if rotation else str(SecretRole.ONLY),
                rotation.deadline if rotation else 0,
                rotation.grace_seconds if rotation else 0,
                CONCURRENCY_RETRY_MS,
                once.digest if once else "",
                once.seed if once else "",
                seen.paid_chars if seen else -1,
                *(limit for scope in scopes for limit in scope),
            ),
        )
        if reply is not None:
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

    def _heartbeat(self) -> None:
        """When it is time, be heard of, and hear how many share the limits if Redis goes away."""
        now = self._monotonic()
        if now < self._heartbeat_at:
            return
        self._heartbeat_at = now + _HEARTBEAT_SECONDS
        alive = self._run(
            self._heartbeat_script, ("qg:instances",), (self._redis_now(), self._instance)
        )
        if alive is not None:
            self._local.instances = alive

    def _without_redis(
        self, principal: Principal, lease: Lease, lease_ms: int, *, sent: bool
    ) -> Decision:
        """Decide by the outage mode. `sent`: Redis may have charged the request all the same."""
        self._on_event(LimiterEvent.DECIDED_WITHOUT_REDIS, self._outage)
        lease, chars = replace(lease, local=True), lease.reserved_chars
        never = exceeded_for_ever(principal, chars)
        if self._rotated_out(principal):
            decision = Decision(None, "invalid_key")
        elif self._outage is Outage.CLOSED or lease.once:
            # Whether it was made before, only Redis knows: who asked to be charged once can wait.
            retry_ms = int(_PROBE_SECONDS * 1000)
            decision = Decision(None, "limiter_unavailable", retry_after_ms=retry_ms)
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
        return replace(decision, limits=(), sunset_at=_sunset(principal))

    def _redis_now(self) -> int | str:
        """Return what the scripts take for the time: nothing means Redis's own clock."""
        return self._redis_clock_ms() if self._redis_clock_ms else ""

    def _rotated_out(self, principal: Principal) -> bool:
        deadline = _sunset(principal)
        return deadline is not None and self._clock() >= deadline

    def _tell(self, settlement: _Settlement) -> bool:
        lease = settlement.lease
        keys = _state_names(lease.tenant, lease.key_id, capped=lease.capped)
        recorded = ""
        if lease.once:
            keys = (*keys, _record_name(lease.tenant, lease.key_id, lease.once))
            recorded = "complete" if settlement.complete else "incomplete"
        arguments = (
            self._redis_now(),
            lease.lease_id,
            settlement.used_chars,
            1 if settlement.whole else 0,
            lease.admitted_at_ms if lease.local else 0,
            recorded,
        )
        return self._run(self._settle_script, keys, arguments) is not None

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

    def _ledgers(self, tenant: str, key_ids: list[str]) -> list[dict[bytes, bytes]]:
        """Return the ledgers of the keys, in one round trip. Raise LimiterUnavailableError."""

        def read() -> list[dict[bytes, bytes]]:
            with self._redis.pipeline(transaction=False) as pipeline:
                for key_id in key_ids:
                    pipeline.hgetall(ledger_name(tenant, key_id))
                answer: list[dict[bytes, bytes]] = pipeline.execute()
                return answer

        ledgers: list[dict[bytes, bytes]] | None = None
        if self._breaker.may_try():
            ledgers = self._call(read)
        if ledgers is None:
            raise LimiterUnavailableError("usage is kept in Redis, which is away")
        return ledgers

    def _run(
        self, script: _Script, keys: tuple[str, ...], arguments: tuple[str | int, ...]
    ) -> Any | None:
        def run() -> Any:
            try:
                return self._redis.evalsha(script.sha, len(keys), *keys, *arguments)
            except redis.exceptions.NoScriptError:
                # A Redis that is new, or was emptied: once, with the whole text.
                return self._redis.eval(script.text, len(keys), *keys, *arguments)

        return self._call(run)

    def _call(self, call: Callable[[], Any]) -> Any | None:
        """Make a call that the breaker allowed. Return None when Redis is away."""
        try:
            answer = call()
        except redis.RedisError as exc:
            if self._breaker.failed():
                self._on_event(LimiterEvent.REDIS_LOST, f"{type(exc).__name__}: {exc}")
            return None
        if self._breaker.succeeded():
            self._on_event(LimiterEvent.REDIS_BACK, "")
        return answer


def _state_names(tenant: str, key_id: str, *, capped: bool) -> tuple[str, ...]:
    """Return what the scripts keep for each scope: the key and, if it has caps, its tenant."""
    key = f"{tenant_base(tenant)}:{key_id}"
    scopes = (key, tenant_base(tenant)) if capped else (key,)
    parts = ("buckets", "leases", "lapsed", "usage", "leases:requests", "leases:chars")
    return tuple(f"{scope}:{part}" for scope in scopes for part in parts)


def _record_name(tenant: str, key_id: str, once: str) -> str:
    return f"{tenant_base(tenant)}:{key_id}:once:{once}"


def _quotas_used(principal: Principal, reply: list[Any]) -> list[tuple[int, int]]:
    """Return what the day and the month hold of each scope, by an answer of acquire.lua."""
    used = []
    for number, limits in enumerate(scopes_of(principal)):
        day_left, month_left = reply[11 + 10 * number], reply[13 + 10 * number]
        used.append(
            (limits[2] - day_left if limits[2] else 0, limits[3] - month_left if limits[3] else 0)
        )
    return used


def _sunset(principal: Principal) -> int | None:
    """Return when the caller's old secret stops at the latest; None if it used another."""
    if principal.secret_role is not SecretRole.OLD or principal.rotation is None:
        return None
    return principal.rotation.deadline


def _decision(principal: Principal, reply: list[Any], chars: int) -> Decision:
    """Read the answer of acquire.lua, which lists what it holds."""
    code, binding, wait_ms, version, sunset_ms, _, month_days, *states = reply
    known = Decision(
        None,
        keyring_version=version if version >= 0 else None,
        sunset_at=sunset_ms // 1000 if sunset_ms >= 0 else None,
    )
    if code in _WITHOUT_LIMITS:
        retry_ms = _IN_PROGRESS_RETRY_MS if code == b"request_in_progress" else None
        return replace(known, code=code.decode(), retry_after_ms=retry_ms)
    limits = limit_states(scopes_of(principal), states[0::2], states[1::2], month_days)
    known = replace(known, limits=limits)
    if code == b"exceeds_plan":
        name = exceeded_for_ever(principal, chars)
        return replace(known, code="exceeds_plan", binding=name)
    if code == b"refused":
        name = SCOPED_NAMES[binding - 1]
        return replace(known, code=REFUSAL_CODES[name], binding=name, retry_after_ms=wait_ms)
    return known
