"""How many instances, how much Redis and how many secrets a load takes. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auth.config import MAX_SHARDS
from auth.config import SHARDS as DEFAULT_SHARDS
from deploy import secret_costs
from deploy.costs import FULL, texts_per_second

CHANGES_A_DAY = 0.02  # of all keys: each issued, rotated or revoked about every seven weeks
STARTS_A_DAY = 10  # each instance is replaced so often
REDIS_FULL = 0.7  # of an instance's memory: the rest is its own, and for a bad day
GIB = 2**30


@dataclass(frozen=True)
class Keyring:
    """What so many keys ask of Secret Manager."""

    keys: int
    shards: int
    bytes: int
    accesses_a_month: float
    dollars_a_month: float

    @property
    def fits(self) -> bool:
        return self.shards <= MAX_SHARDS


def keyring(
    keys: int, instances: int, prices: Mapping[str, Any], measured: Mapping[str, Any]
) -> Keyring:
    """Return the keyring of so many keys, read by so many instances."""
    size = keys * float(measured["keyring_bytes_per_key"])
    needed = max(DEFAULT_SHARDS, math.ceil(keys / secret_costs.keys_a_shard(measured)))
    shards = 2 ** math.ceil(math.log2(needed))
    habit = secret_costs.Habit(
        shards=shards,
        starts_a_day=instances * STARTS_A_DAY,
        changes_a_day=keys * CHANGES_A_DAY,
        instances=instances,
    )
    accesses, dollars = habit.accesses_a_month, secret_costs.month(habit, prices)
    return Keyring(keys, shards, round(size), accesses, dollars)


@dataclass(frozen=True)
class Memory:
    """What the ledgers and buckets of so many keys in daily use take of Redis."""

    keys: int
    month_bytes: float  # after 30 days
    full_bytes: float  # after the 400 days for which the ledger is kept
    refused_bytes: float  # ... and each key was refused something on each of them
    capacity_gb: int  # of the instance that holds it


def memory(keys: int, measured: Mapping[str, Any]) -> Memory:
    """Return the Redis memory of so many keys, each used every day."""
    beside = float(measured["redis_bytes_per_key"])
    month, full, refused = (
        keys * (beside + float(measured[f"redis_ledger_bytes_{after}"]))
        for after in ("30_days", "400_days", "400_days_refused")
    )
    return Memory(keys, month, full, refused, max(1, math.ceil(refused / REDIS_FULL / GIB)))


@dataclass(frozen=True)
class Traffic:
    """What so many requests a second ask for."""

    requests_per_second: int
    gateway_instances: int  # when requests only pass the gate: keys, limits, refusals
    text_instances: int  # when each is a text of the measured length
    redis_calls_per_second: float
    redis_core_share: float  # of the one processor that Redis uses


def traffic(requests_per_second: int, measured: Mapping[str, Any]) -> Traffic:
    gateway = float(measured["smallest_requests_per_second"]) * FULL
    texts = texts_per_second(measured) * FULL
    rate = requests_per_second
    return Traffic(
        rate,
        max(1, math.ceil(rate / gateway)),
        max(1, math.ceil(rate / texts)),
        rate * float(measured["redis_calls_per_request"]),
        rate * float(measured["redis_microseconds_per_request"]) / 1e6,
    )
