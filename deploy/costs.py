"""What a month costs, from the prices in prices.toml and the figures in measured.toml. Pure.

Texts are taken as spread evenly over the month, which is kind to a small service and unkind to a
large one; the docs say so where they show the tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy import secret_costs

MONTH_SECONDS = 730 * 3600
PROCESSORS = 2
MEMORY_GIB = 2
FULL = 0.6  # scaling out begins when an instance is this full
ANSWER_BYTES = 4_000  # a streamed text of 300 characters with its headers


@dataclass(frozen=True)
class Load:
    """So many texts a day of the measured length."""

    name: str
    texts_per_day: int
    users: int = 0  # people with a login to the web app

    @property
    def per_second(self) -> float:
        return self.texts_per_day / 86_400


LOADS = (
    Load("a trial", 500, users=3),
    Load("a small product", 20_000, users=20),
    Load("a busy one", 500_000, users=100),
)


def texts_per_second(measured: Mapping[str, Any]) -> float:
    """Return what one instance writes when all its rows are in use."""
    return float(measured["chars_per_second"]) / float(measured["text_chars"])


def instances(load: Load, measured: Mapping[str, Any]) -> int:
    return max(1, math.ceil(load.per_second / (texts_per_second(measured) * FULL)))


def busy_share(load: Load, measured: Mapping[str, Any]) -> float:
    """Return the share of the time in which an instance has at least one text under way.

    Texts that arrive at random overlap, and an instance is paid for once for all of them:
    1 - exp(-rate x length), the busy share of a server that never turns away.
    """
    rate = load.per_second / instances(load, measured)
    slowdown = 1 / (1 - min(0.9, rate / texts_per_second(measured)))
    return 1 - math.exp(-rate * float(measured["text_alone_seconds"]) * slowdown)


def throttled(
    load: Load, prices: Mapping[str, Any], measured: Mapping[str, Any], *, least: int
) -> float:
    """Return the month with the processor allocated during requests, `least` instances kept."""
    price, number = prices["cloud_run"], instances(load, measured)
    busy = busy_share(load, measured)
    active = number * busy * MONTH_SECONDS
    idle = least * (1 - busy) * MONTH_SECONDS
    requests = load.texts_per_day * MONTH_SECONDS / 86_400 / 1e6
    return float(
        _beyond(active * PROCESSORS, price["free_vcpu_seconds"]) * price["vcpu_second"]
        + _beyond(active * MEMORY_GIB, price["free_gib_seconds"]) * price["gib_second"]
        + idle * PROCESSORS * price["idle_vcpu_second"]
        + idle * MEMORY_GIB * price["idle_gib_second"]
        + _beyond(requests, price["free_million_requests"]) * price["million_requests"]
    )


def always(load: Load, prices: Mapping[str, Any], measured: Mapping[str, Any]) -> float:
    """Return the month with the processor allocated as long as an instance lives."""
    price = prices["cloud_run_always"]
    alive = instances(load, measured) * MONTH_SECONDS
    return float(
        _beyond(alive * PROCESSORS, price["free_vcpu_seconds"]) * price["vcpu_second"]
        + _beyond(alive * MEMORY_GIB, price["free_gib_seconds"]) * price["gib_second"]
    )


def around(load: Load, prices: Mapping[str, Any]) -> dict[str, float]:
    """Return what is paid beside the instances."""
    gigabytes = load.texts_per_day * MONTH_SECONDS / 86_400 * ANSWER_BYTES / 1e9
    return {
        "Redis": prices["redis"]["month"],
        "Secret Manager": secret_costs.month(secret_costs.Habit(users=load.users), prices),
        "Fly.io, one machine": prices["fly"]["month"],
        "egress": _beyond(gigabytes, 1) * prices["egress"]["cloud_run_gb"],
    }


def _beyond(used: float, free: float) -> float:
    return max(0.0, used - free)
