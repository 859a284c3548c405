"""Failed authentications as an admin reads them: how many, by reason and by address; never a key.

Counted on the shared Redis by the hour (propagation.py) and kept for a week. What the counts may
hold is decided here: a reason is a word of the code's own, an address is an address or `unknown`.
Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any

HOUR_SECONDS = 3600
KEPT_HOURS = 7 * 24
SHOWN_HOURS = 24
SHOWN_ADDRESSES = 100
UNKNOWN = "unknown"


def network(address: str) -> str:
    """Return whom an address stands for: of IPv6 the /64, which one caller holds whole."""
    try:
        ip = ip_address(address)
    except ValueError:
        return UNKNOWN  # a proxy passed on what a caller wrote: it may be anything
    if not isinstance(ip, IPv6Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)  # how a dual-stack socket tells of an IPv4 caller
    return f"{IPv6Address(int(ip) >> 64 << 64)}/64"


def told(
    hours: int, now: float, counted: Iterable[tuple[Mapping[str, int], Mapping[str, int]]]
) -> dict[str, Any]:
    """Return the answer of `GET /v1/admin/failures`.

    `counted` has for each hour the counts by reason, and those by `reason address`: of the hour's
    busiest, so that `others` is what came from addresses that are not shown.
    """
    by_reason, by_address = Counter[str](), Counter[str]()
    reasons: dict[str, Counter[str]] = {}
    for of_reasons, of_addresses in counted:
        by_reason.update(of_reasons)
        for member, count in of_addresses.items():
            reason, _, address = member.partition(" ")
            by_address[address] += count
            reasons.setdefault(address, Counter())[reason] += count
    shown = by_address.most_common(SHOWN_ADDRESSES)
    return {
        "since": (int(now) // HOUR_SECONDS - hours + 1) * HOUR_SECONDS,
        "total": by_reason.total(),
        "by_reason": dict(by_reason.most_common()),
        "others": by_reason.total() - sum(count for _, count in shown),
        "addresses": [
            {"address": address, "count": count, "reasons": dict(reasons[address].most_common())}
            for address, count in shown
        ],
    }
