"""What the secrets cost with Google Secret Manager: versions that are kept, and accesses. Pure.

A version is paid for as long as it is enabled or disabled, with automatic replication; an access is
reading one version; changing and destroying cost nothing. Both tables that tell of it, in
docs/secret-manager.md and docs/scaling.md, and the month in docs/deploy.md are computed here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auth.documents import KEPT_BYTES
from auth.secrets import MAX_PAYLOAD_BYTES

DAYS = 30.4
SINGLE = ("tenants", "users", "audit", "pepper", "redis-url")  # one live version each
KEY_VERSIONS = 2  # of the key that is forwarded for a web user
ARCHIVE_RECORDS = 250  # records of the audit chain in one archived version
WRITER_READS = 8  # what one change reads before it is made

# Keys are spread over the shards by hash: the fullest holds more than its share.
SKEW = 1.5
# A rotation holds two secrets, and a document must be writable during it.
HEADROOM = 1.4


def keys_a_shard(measured: Mapping[str, Any]) -> int:
    """Return how many keys a shard holds at ease: uneven shards and rotations have room."""
    room = MAX_PAYLOAD_BYTES - KEPT_BYTES
    return math.floor(room / (float(measured["keyring_bytes_per_key"]) * SKEW * HEADROOM))


@dataclass(frozen=True)
class Habit:
    """How a deployment is used, as far as its secrets are concerned."""

    shards: int = 16
    users: int = 20
    starts_a_day: float = 50
    changes_a_day: float = 20
    instances: int = 3

    @property
    def versions(self) -> float:
        """Live versions, the audit archive on average over its first year."""
        archive = self.changes_a_day * 365 / ARCHIVE_RECORDS / 2
        return self.shards + len(SINGLE) + KEY_VERSIONS * self.users + archive

    @property
    def accesses_a_month(self) -> float:
        """An instance that starts reads all; a change is read by each, and by its writer."""
        started = self.starts_a_day * (self.shards + len(SINGLE))
        return DAYS * (started + self.changes_a_day * (self.instances + WRITER_READS))


def month(habit: Habit, prices: Mapping[str, Any]) -> float:
    """Return dollars."""
    price = prices["secret_manager"]
    versions = max(0.0, habit.versions - price["free_versions"])
    accesses = max(0.0, habit.accesses_a_month - price["free_accesses"])
    return float(
        versions * price["active_version_month"]
        + accesses / 10_000 * price["ten_thousand_accesses"]
    )
