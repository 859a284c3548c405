"""What a decision about a request is made of, and what it says. Pure values.

Limits are of three kinds: rates (token buckets that refill continuously), quotas (UTC calendar day
and month) and the concurrency cap. A scope is what they are counted for: the key by its plan and,
where it has caps, its tenant. Every limiter evaluates and reports them in the order of
`LIMIT_NAMES`, the key's before the tenant's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from auth.principal import Principal

LIMIT_NAMES = (
    "requests_per_minute",
    "chars_per_minute",
    "chars_per_day",
    "chars_per_month",
    "concurrency",
)

OF_TENANT = "tenant_"  # begins the names of a tenant's caps, across its keys
SCOPED_NAMES = (*LIMIT_NAMES, *(OF_TENANT + name for name in LIMIT_NAMES))

# What refuses a request, by the limit that makes it wait longest.
_CODES = ("rate_limited", "rate_limited", "quota_exceeded", "quota_exceeded", "too_many_concurrent")
REFUSAL_CODES = dict(zip(SCOPED_NAMES, _CODES * 2, strict=True))

# One scope's limits in the order of LIMIT_NAMES; 0: there is no such limit.
Limits = tuple[int, ...]

# A slot comes back when another request ends, which no clock can tell: ask again soon.
CONCURRENCY_RETRY_MS = 1000

# Ways to finish after which the text is whole, so that to answer it again costs nothing.
COMPLETE = frozenset({"length", "stop"})

# `finish` of a request that was admitted but never begun: nothing of it is charged.
REFUSED = "refused"


class LimitState(NamedTuple):
    """One named limit after a decision, as its headers will tell it."""

    name: str  # one of SCOPED_NAMES
    limit: int
    remaining: int
    reset_seconds: float  # until the whole limit is available again; 0 when it is
    window_seconds: int  # 0 for the concurrency cap


@dataclass(frozen=True, slots=True)
class Once:
    """A request that is to be charged once, however often it is made."""

    name: str  # of its record: a digest of the idempotency key
    digest: str  # of the whole request
    seed: int  # drawn for it, unless it turns out to have one


class Lease(NamedTuple):
    """What was charged for one admitted request, needed to settle it once."""

    lease_id: str
    tenant: str
    key_id: str
    reserved_chars: int
    admitted_at_ms: int  # Redis's clock: tells which calendar windows were charged
    local: bool = False  # granted by this instance alone while Redis was away
    capped: bool = False  # the tenant's caps were charged too
    once: str = ""  # the name of the request's record, if it has an idempotency key
    paid_chars: int = 0  # charged for this very request before, when it was made already


class Decision(NamedTuple):
    """The answer to "may this request run?": of `lease` and `code` exactly one is set.

    (A peek charges nothing, so it has no lease; its `code` is None when the request would run.)
    `code` is one of contract section 4: rate_limited, quota_exceeded, too_many_concurrent,
    exceeds_plan, limiter_unavailable, invalid_key (revoked, or a rotated-out secret),
    request_in_progress or idempotency_key_reused.
    """

    lease: Lease | None
    code: str | None = None
    binding: str | None = None  # name of the limit that refused
    retry_after_ms: int | None = None  # enough for this very request
    limits: tuple[LimitState, ...] = ()  # empty when the limiter could not answer
    keyring_version: int | None = None  # current version of the key's shard, if Redis knows it
    seed: int | None = None  # that an earlier request with this idempotency key was given
    sunset_at: int | None = None  # Unix seconds: when the old secret that was used stops working
    cost_chars: int | None = None  # of a peek: what would be charged, less what was paid before

    @property
    def allowed(self) -> bool:
        return self.lease is not None


def scopes_of(principal: Principal) -> tuple[Limits, ...]:
    """Return the limits of the key and, if it has caps, those of its tenant."""
    plan, caps = principal.plan, principal.caps
    key = (
        plan.requests_per_minute,
        plan.chars_per_minute,
        plan.chars_per_day,
        plan.chars_per_month,
        plan.concurrency,
    )
    if caps is None:
        return (key,)
    tenant = (
        caps.requests_per_minute or 0,
        caps.chars_per_minute or 0,
        caps.chars_per_day or 0,
        caps.chars_per_month or 0,
        caps.concurrency or 0,
    )
    return key, tenant


def limit_states(
    scopes: Sequence[Limits], left: Sequence[int], reset_ms: Sequence[int], month_days: int
) -> tuple[LimitState, ...]:
    """Return the states of all limits that there are; the sequences go scope by scope."""
    month = 86_400 * month_days
    windows = (60, 60, 86_400, month, 0, 60, 60, 86_400, month, 0)
    limits = scopes[0] if len(scopes) == 1 else scopes[0] + scopes[1]
    return tuple(
        [
            LimitState(name, limit, max(0, remaining), ms / 1000, window)
            for name, limit, remaining, ms, window in zip(
                # of names and windows there are enough for two scopes
                *(SCOPED_NAMES, limits, left, reset_ms, windows),
                strict=False,
            )
            if limit
        ]
    )


def most_chars(principal: Principal) -> int:
    """Return the largest request that the limits can ever admit."""
    plan, caps = principal.plan, principal.caps
    most = [plan.max_num_chars, plan.chars_per_minute, plan.chars_per_day, plan.chars_per_month]
    if caps is not None:
        given = (caps.chars_per_minute, caps.chars_per_day, caps.chars_per_month)
        most += [cap for cap in given if cap is not None]
    return min(most)


def exceeded_for_ever(principal: Principal, chars: int) -> str | None:
    """Return the name of the limit that could never admit a request of `chars`, or None."""
    plan, caps = principal.plan, principal.caps
    for name in ("max_num_chars", "chars_per_minute", "chars_per_day", "chars_per_month"):
        if chars > getattr(plan, name):
            return name
    for name in LIMIT_NAMES[1:4] if caps is not None else ():
        cap = getattr(caps, name)
        if cap is not None and chars > cap:
            return OF_TENANT + name
    return None
