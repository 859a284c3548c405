"""What a decision about a request is made of, and what it says. Pure values.

A plan's limits are of three kinds: rates (token buckets that refill continuously), quotas (UTC
calendar day and month) and the concurrency cap. The order of `LIMIT_NAMES` is the one in which
every limiter evaluates and reports them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from auth.plans import Plan

LIMIT_NAMES = (
    "requests_per_minute",
    "chars_per_minute",
    "chars_per_day",
    "chars_per_month",
    "concurrency",
)

# What refuses a request, by the limit that makes it wait longest.
REFUSAL_CODES = {
    "requests_per_minute": "rate_limited",
    "chars_per_minute": "rate_limited",
    "chars_per_day": "quota_exceeded",
    "chars_per_month": "quota_exceeded",
    "concurrency": "too_many_concurrent",
}

# A slot comes back when another request ends, which no clock can tell: ask again soon.
CONCURRENCY_RETRY_MS = 1000

# `finish` of a request that was admitted but never begun: nothing of it is charged.
REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class LimitState:
    """One named limit after a decision, as its headers will tell it."""

    name: str  # one of LIMIT_NAMES
    limit: int
    remaining: int
    reset_seconds: float  # until the whole limit is available again; 0 when it is
    window_seconds: int  # 0 for the concurrency cap


@dataclass(frozen=True, slots=True)
class Lease:
    """What was charged for one admitted request, needed to settle it once."""

    lease_id: str
    tenant: str
    key_id: str
    reserved_chars: int
    admitted_at_ms: int  # Redis's clock: tells which calendar windows were charged
    local: bool = False  # granted by this instance alone while Redis was away


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to "may this request run?": of `lease` and `code` exactly one is set.

    (A peek charges nothing, so it has no lease; its `code` is None when the request would run.)
    `code` is one of contract section 4: rate_limited, quota_exceeded, too_many_concurrent,
    exceeds_plan, limiter_unavailable, or invalid_key (revoked, or a rotated-out secret).
    """

    lease: Lease | None
    code: str | None = None
    binding: str | None = None  # name of the limit that refused
    retry_after_ms: int | None = None  # enough for this very request
    limits: tuple[LimitState, ...] = field(default=())  # empty when the limiter could not answer
    keyring_version: int | None = None  # current version of the key's shard, if Redis knows it
    sunset_at: int | None = None  # Unix seconds: when the old secret that was used stops working

    @property
    def allowed(self) -> bool:
        return self.lease is not None


def limits_of(plan: Plan) -> tuple[int, ...]:
    """Return the plan's limits in the order of LIMIT_NAMES."""
    return tuple(getattr(plan, name) for name in LIMIT_NAMES)


def limit_states(
    plan: Plan, remaining: Sequence[int], reset_ms: Sequence[int], month_days: int
) -> tuple[LimitState, ...]:
    """Return the states of a plan's limits; the sequences are in the order of LIMIT_NAMES."""
    windows = (60, 60, 86_400, 86_400 * month_days, 0)
    rows = zip(LIMIT_NAMES, limits_of(plan), remaining, reset_ms, windows, strict=True)
    return tuple(
        LimitState(name, limit, max(0, left), ms / 1000, window)
        for name, limit, left, ms, window in rows
    )


def exceeded_for_ever(plan: Plan, chars: int) -> str | None:
    """Return the name of the limit that could never admit a request of `chars`, or None."""
    for name in ("max_num_chars", "chars_per_minute", "chars_per_day", "chars_per_month"):
        if chars > getattr(plan, name):
            return name
    return None
