"""How many instances, how much Redis and how many secrets a load takes. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auth.config import MAX_SHARDS
from auth.secrets import MAX_PAYLOAD_BYTES
from deploy.costs import FULL, secrets_month, texts_per_second

SHARDS = 16  # the default
# Keys are spread over the shards by hash: the fullest holds more than its share.
SKEW = 1.5
# A rotation holds two secrets, and a document must be writable during it.
HEADROOM = 1.4
CHANGES_A_DAY = 0.02  # of all keys: each issued, rotated or revoked about every seven weeks
DAYS = 30.4


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
    needed = max(SHARDS, math.ceil(size * SKEW * HEADROOM / MAX_PAYLOAD_BYTES))
    shards = 2 ** math.ceil(math.log2(needed))
    starts = instances * 10 * DAYS  # each instance is replaced ten times a day
    changes = keys * CHANGES_A_DAY * DAYS * instances
    accesses = starts * (shards + 3) + changes
    return Keyring(keys, shards, round(size), accesses, secrets_month(shards + 4, accesses, prices))


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
