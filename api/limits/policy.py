"""What a decision about a request is made of, and what it says. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LimitState:
    """One named limit after a decision, as its headers will tell it."""

    name: str  # "requests_per_minute", "chars_per_minute", "chars_per_day", ..., "concurrency"
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
    """The answer to "may this request run?"; either `lease` or `code` is set, never both.

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
