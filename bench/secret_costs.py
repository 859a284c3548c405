"""What the secrets cost a year with Google Secret Manager: python -m bench.secret_costs.

Prices of November 2026 (cloud.google.com/secret-manager/pricing): $0.06 a month for each version
that is enabled or disabled, with automatic replication; $0.03 for 10,000 accesses; 6 versions and
10,000 accesses a month are free. Changing and destroying cost nothing.
"""

from __future__ import annotations

VERSION_MONTH = 0.06
ACCESSES = 0.03 / 10_000
FREE_VERSIONS = 6
FREE_ACCESSES = 10_000

KEYS_A_SHARD = 400  # a record is some 110 bytes compressed, a secret holds 64 KiB; half is air
OTHERS = 4  # tenants, users, audit, pepper: one live version each
ARCHIVE_RECORDS = 250  # records of the audit chain in one archived version


def yearly_dollars(
    shards: int,
    *,
    users: int = 20,
    starts_a_day: int = 50,
    changes_a_day: int = 20,
    instances: int = 3,
) -> float:
    """Return the yearly cost: live versions, and what starting and changing instances read.

    Each web user has two versions of the key that is forwarded for them. A change is read by
    every instance, besides the handful of accesses that make it. The audit of one year is kept.
    """
    archived = changes_a_day * 365 / ARCHIVE_RECORDS / 2  # on average over the first year
    versions = shards + OTHERS + 2 * users + archived
    accesses = 30 * (starts_a_day * (shards + 2) + changes_a_day * (instances + 8))
    month = max(0.0, versions - FREE_VERSIONS) * VERSION_MONTH
    month += max(0, accesses - FREE_ACCESSES) * ACCESSES
    return 12 * month


def table() -> list[str]:
    """Return the table of docs/secret-manager.md."""
    rows = [
        f"| {shards} | {shards * KEYS_A_SHARD:,} | {yearly_dollars(shards):.0f} |"
        for shards in (4, 16, 64, 256)
    ]
    return ["| shards | keys, at ease | $ a year |", "|---|---|---|", *rows]


if __name__ == "__main__":
    print("\n".join(table()))
