"""The documents' computed tables: current, and computed rightly."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from deploy import costs, sizing, tables

ROOT = Path(__file__).parents[3]
PRICES = {
    "cloud_run": {
        "vcpu_second": 2e-5,
        "gib_second": 1e-6,
        "idle_vcpu_second": 2e-6,
        "idle_gib_second": 1e-6,
        "million_requests": 0.5,
        "free_vcpu_seconds": 100,
        "free_gib_seconds": 100,
        "free_million_requests": 0,
    },
    "cloud_run_always": {
        "vcpu_second": 1e-5,
        "gib_second": 1e-6,
        "free_vcpu_seconds": 0,
        "free_gib_seconds": 0,
    },
    "secret_manager": {
        "active_version_month": 0.06,
        "ten_thousand_accesses": 0.03,
        "free_versions": 6,
        "free_accesses": 10_000,
    },
}
MEASURED = {
    "chars_per_second": 3_000,
    "text_chars": 300,
    "text_alone_seconds": 0.5,
    "smallest_requests_per_second": 100,
    "redis_calls_per_request": 2,
    "redis_microseconds_per_request": 100,
    "keyring_bytes_per_key": 200,
}


@pytest.mark.parametrize("document", tables.DOCUMENTS, ids=str)
def test_the_documents_hold_what_is_computed(document):
    """No price or figure can change without the tables that it goes into."""
    text = (ROOT / document).read_text(encoding="utf-8")
    assert tables.filled(text) == text, "run: python -m deploy.tables"
    assert "<!-- table:" in text


def test_every_price_says_where_it_was_read():
    """No group of prices is without its source."""
    for name, group in tables.read("prices.toml").items():
        assert group["seen"], name


def test_an_idle_service_costs_nothing_and_a_kept_instance_its_idle_price():
    """Without texts: free at no minimum; the idle price of processor and memory at one."""
    nobody = costs.Load("nobody", 0)
    assert costs.throttled(nobody, PRICES, MEASURED, least=0) == 0
    idle = costs.MONTH_SECONDS * (2 * 2e-6 + 2 * 1e-6)
    assert costs.throttled(nobody, PRICES, MEASURED, least=1) == pytest.approx(idle)


def test_a_busy_second_is_paid_once_however_many_texts_share_it():
    """One text a second of half a second: busy for 1 - exp(-0.5/0.9) of the time."""
    load = costs.Load("steady", 86_400)
    share = 1 - math.exp(-0.5 / 0.9)
    assert costs.busy_share(load, MEASURED) == pytest.approx(share)
    seconds = share * costs.MONTH_SECONDS
    expected = (
        (2 * seconds - 100) * 2e-5 + (2 * seconds - 100) * 1e-6 + costs.MONTH_SECONDS / 1e6 * 0.5
    )
    assert costs.throttled(load, PRICES, MEASURED, least=0) == pytest.approx(expected)


def test_instances_follow_the_load():
    """Ten texts a second fill an instance; it counts as full at six."""
    assert costs.instances(costs.Load("six", 6 * 86_400), MEASURED) == 1
    assert costs.instances(costs.Load("seven", 7 * 86_400), MEASURED) == 2
    sized = sizing.traffic(1_000, MEASURED)
    assert (sized.gateway_instances, sized.text_instances) == (17, 167)
    assert sized.redis_core_share == pytest.approx(0.1)


def test_a_keyring_gets_the_shards_that_its_keys_need():
    """Shards are a power of two, no fewer than the default, and every document stays writable."""
    small = sizing.keyring(10, 1, PRICES, MEASURED)
    assert small.shards == 16
    large = sizing.keyring(100_000, 1, PRICES, MEASURED)
    assert large.shards == 1024
    assert large.bytes / large.shards * sizing.SKEW * sizing.HEADROOM < 65_536
    assert large.fits
    assert not sizing.keyring(1_000_000, 1, PRICES, MEASURED).fits
