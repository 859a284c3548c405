"""How requests are put to acquire.lua and settle.lua, and how the answers read. Pure.

What of a question depends on the caller alone is packed once and remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from api.limits.policy import (
    CONCURRENCY_RETRY_MS,
    REFUSAL_CODES,
    SCOPED_NAMES,
    Decision,
    Lease,
    Limits,
    Once,
    exceeded_for_ever,
    limit_states,
    most_chars,
    scopes_of,
)
from api.limits.redis_line import Value, bulk
from auth.principal import Principal, SecretRole
from auth.propagation_keys import (
    keyring_pointer_copy,
    last_used,
    revoked_marker,
    rotation_first_use,
    tenant_base,
    tenant_group,
)

_REMEMBERED = 10_000
_IN_PROGRESS_RETRY_MS = 1000  # it ends when it ends: ask again soon
_WITHOUT_LIMITS = frozenset({b"invalid_key", b"request_in_progress", b"idempotency_key_reused"})
_STATE = ("buckets", "leases", "lapsed", "usage", "leases:requests", "leases:chars")
_NOBODY = bulk("", "", -1)  # no idempotency key


class Asked(NamedTuple):
    """What one question is about."""

    mode: str  # "acquire" or "peek"
    lease_id: str
    lease_ms: int
    chars: int
    address: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What Redis said of an earlier request with the same idempotency key."""

    paid_chars: int = -1
    complete: bool = False
    seed: int | None = None

    @classmethod
    def told(cls, reply: list[Any]) -> Seen | None:
        """Return what an answer of acquire.lua says of it; None if it decides the request."""
        return cls(reply[7], reply[8] == 1, int(reply[9])) if reply[0] == b"known" else None

    def unpaid(self, chars: int) -> int:
        """Return what of `chars` is still to be charged."""
        return 0 if self.complete else chars - min(chars, max(0, self.paid_chars))


@dataclass(frozen=True, slots=True)
class _Caller:
    """What a question says of who asks: its names, and how it is limited."""

    principal: Principal  # as it was when this was packed
    names: tuple[str, ...]
    limits: tuple[Limits, ...]
    most_chars: int  # a request for more could never be admitted
    packed_names: bytes
    packed_role: bytes
    packed_limits: bytes

    def still(self, principal: Principal) -> bool:
        """Return whether the principal would be packed the same."""
        then = self.principal
        return then is principal or (
            then.plan == principal.plan
            and then.caps == principal.caps
            and then.secret_role is principal.secret_role
            and then.rotation == principal.rotation
            and then.keyring_shard == principal.keyring_shard
        )


class Questions:
    """Packs questions; safe to call from many threads."""

    def __init__(self) -> None:
        self._callers: dict[tuple[str, str], _Caller] = {}

    def acquire(
        self,
        principal: Principal,
        clock: Value,
        asked: Asked,
        once: Once | None = None,
        seen: Seen | None = None,
    ) -> tuple[bytes, int]:
        """Return the packed keys and arguments of acquire.lua, and how many they are."""
        caller = self._caller(principal)
        never = 1 if asked.chars > caller.most_chars else 0
        mode, lease_id, lease_ms, chars, address = asked
        packed = bulk(clock, mode, lease_id, lease_ms, chars, never, address)
        if once is None:
            parts = (caller.packed_names, packed, caller.packed_role, _NOBODY, caller.packed_limits)
            return b"".join(parts), 1 + len(caller.names) + 14 + 5 * len(caller.limits)
        names = (*caller.names, record_name(principal.tenant, principal.key_id, once.name))
        again = bulk(once.digest, once.seed, -1 if seen is None else seen.paid_chars)
        parts = (bulk(len(names), *names), packed, caller.packed_role, again, caller.packed_limits)
        return b"".join(parts), 1 + len(names) + 14 + 5 * len(caller.limits)

    def _caller(self, principal: Principal) -> _Caller:
        key = (principal.tenant, principal.key_id)
        known = self._callers.get(key)
        if known is not None and known.still(principal):
            return known
        if len(self._callers) >= _REMEMBERED:
            self._callers.clear()
        caller = self._callers[key] = _packed(principal)
        return caller


def _packed(principal: Principal) -> _Caller:
    rotation, limits = principal.rotation, scopes_of(principal)
    tenant, key_id = principal.tenant, principal.key_id
    names = (
        revoked_marker(tenant, key_id),
        keyring_pointer_copy(principal.keyring_shard, tenant_group(tenant)),
        rotation_first_use(tenant, key_id, rotation.started_at if rotation else 0),
        last_used(tenant, key_id),
        *state_names(tenant, key_id, capped=len(limits) > 1),
    )
    role = (
        str(principal.secret_role) if rotation else str(SecretRole.ONLY),
        rotation.deadline if rotation else 0,
        rotation.grace_seconds if rotation else 0,
        CONCURRENCY_RETRY_MS,
    )
    return _Caller(
        principal,
        names,
        limits,
        most_chars(principal),
        packed_names=bulk(len(names), *names),
        packed_role=bulk(*role),
        packed_limits=bulk(*(limit for scope in limits for limit in scope)),
    )


def settle(
    lease: Lease, *, clock: Value, used_chars: int, whole: bool, complete: bool
) -> tuple[bytes, int]:
    """Return the packed keys and arguments of settle.lua, and how many they are."""
    names = state_names(lease.tenant, lease.key_id, capped=lease.capped)
    recorded = ""
    if lease.once:
        names = (*names, record_name(lease.tenant, lease.key_id, lease.once))
        recorded = "complete" if complete else "incomplete"
    granted_elsewhere_at = lease.admitted_at_ms if lease.local else 0
    packed = bulk(
        *(len(names), *names, clock, lease.lease_id, used_chars, 1 if whole else 0),
        *(granted_elsewhere_at, recorded),
    )
    return packed, 1 + len(names) + 6


@lru_cache(maxsize=_REMEMBERED)
def state_names(tenant: str, key_id: str, *, capped: bool) -> tuple[str, ...]:
    """Return what the scripts keep for each scope: the key and, if it has caps, its tenant."""
    key = f"{tenant_base(tenant)}:{key_id}"
    scopes = (key, tenant_base(tenant)) if capped else (key,)
    return tuple(f"{scope}:{part}" for scope in scopes for part in _STATE)


def record_name(tenant: str, key_id: str, once: str) -> str:
    """Where a request with an idempotency key is remembered."""
    return f"{tenant_base(tenant)}:{key_id}:once:{once}"


def quotas_used(principal: Principal, reply: list[Any]) -> list[tuple[int, int]]:
    """Return what the day and the month hold of each scope, by an answer of acquire.lua."""
    used = []
    for number, limits in enumerate(scopes_of(principal)):
        day_left, month_left = reply[11 + 10 * number], reply[13 + 10 * number]
        used.append(
            (limits[2] - day_left if limits[2] else 0, limits[3] - month_left if limits[3] else 0)
        )
    return used


def decision(
    principal: Principal, reply: list[Any], chars: int, lease: Lease | None, seed: int | None
) -> Decision:
    """Read the answer of acquire.lua, which lists what it holds; `lease` is for an admission."""
    code, binding, wait_ms, version, sunset_ms, _, month_days, *states = reply
    keyring_version = version if version >= 0 else None
    sunset_at = sunset_ms // 1000 if sunset_ms >= 0 else None
    if code in _WITHOUT_LIMITS:
        retry_ms = _IN_PROGRESS_RETRY_MS if code == b"request_in_progress" else None
        return Decision(
            None,
            code.decode(),
            retry_after_ms=retry_ms,
            keyring_version=keyring_version,
            sunset_at=sunset_at,
        )
    limits = limit_states(scopes_of(principal), states[0::2], states[1::2], month_days)
    if code == b"exceeds_plan":
        name = exceeded_for_ever(principal, chars)
        return Decision(None, "exceeds_plan", name, None, limits, keyring_version, None, sunset_at)
    if code == b"refused":
        name = SCOPED_NAMES[binding - 1]
        refused = REFUSAL_CODES[name]
        return Decision(None, refused, name, wait_ms, limits, keyring_version, None, sunset_at)
    return Decision(lease, None, None, None, limits, keyring_version, seed, sunset_at)
