"""The documents' computed tables: current, and computed rightly."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from auth.documents import KEPT_BYTES
from auth.secrets import MAX_PAYLOAD_BYTES
from deploy import capacity, costs, secret_costs, sizing, speed, tables

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
    "redis_bytes_per_key": 500,
    "redis_ledger_bytes_30_days": 1_500,
    "redis_ledger_bytes_400_days": 67_000,
    "redis_ledger_bytes_400_days_refused": 112_000,
    "keyring_bytes_per_key": 64,
}


@pytest.mark.parametrize("document", tables.DOCUMENTS, ids=str)
def test_the_documents_hold_what_is_computed(document):
    """No price or figure can change without the tables that it goes into."""
    text = (ROOT / document).read_text(encoding="utf-8")
    assert tables.filled(text) == text, "run: python -m deploy.tables"
    assert "<!-- table:" in text


def test_every_price_was_read_on_a_day_or_is_marked_as_assumed():
    """A group of which anything was read names where and when; all else says so in the table."""
    shown = tables.price_list()
    for name, group in tables.read("prices.toml").items():
        prices = set(group) - {"seen", "assumed"}
        assert set(group["assumed"]) <= prices, name
        if set(group["assumed"]) != prices:
            assert re.search(r"read 20\d\d-\d\d-\d\d|copy of \w+ 20\d\d", group["seen"]), name
        for one in group["assumed"]:
            assert re.search(rf"\b{one.replace('_', ' ')} [\d.,e-]+ \(assumed\)", shown), one


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
    assert large.shards == 256
    room = MAX_PAYLOAD_BYTES - KEPT_BYTES
    assert large.bytes / large.shards * secret_costs.SKEW * secret_costs.HEADROOM < room
    assert large.fits
    assert not sizing.keyring(1_000_000, 1, PRICES, MEASURED).fits


def test_the_secrets_follow_shards_users_and_changes():
    """A shard more is a version more; a user two; the first six are free; requests cost nothing."""
    quiet = secret_costs.Habit(users=0, starts_a_day=0, changes_a_day=0)
    one_more = replace(quiet, shards=17)
    extra = secret_costs.month(one_more, PRICES) - secret_costs.month(quiet, PRICES)
    assert extra == pytest.approx(0.06)
    assert replace(quiet, users=1).versions - quiet.versions == 2
    assert secret_costs.month(replace(quiet, shards=1), PRICES) == 0
    assert quiet.versions == 16 + len(secret_costs.SINGLE)


def test_the_speeds_are_the_best_of_each_kind_and_medians_of_one_run():
    """A peer is shown at its best for each size; the service beside the engine of the same run."""

    def kind(*rates):
        return {
            size: {"chars_per_second": rate}
            for size, rate in zip(speed.AT_A_TIME, rates, strict=True)
        }

    names = ("quillgate int8", "CTranslate2 int8", "transformers generate")
    found = {name: kind(1, 1, 1) for name in names}
    found |= {"llama.cpp f32": kind(5, 6, 9000), "llama.cpp q8_0": kind(7, 4, 8)}
    assert speed.engines({"engines": found})[1][1:] == ["7", "6", "9,000"]
    results = {
        "http": {"http_chars_per_second": [5, 1, 3000], "raw_chars_per_second": [9, 7, 8]},
        "start": {"ready_seconds": 2, "import_torch_seconds": 3},
        "memory": {"after_all_mb": 244},
    }
    assert [row[1] for row in speed.service(results)][:5] == ["5", "8", "2 s", "3 s", "244 MB"]
    results["build"] = {"date": "2026-11-23 18:00 UTC", "commit": "abc"}
    assert speed.service(results)[-1] == ["measured", "2026-11-23, commit abc"]


def test_a_ledgers_memory_is_sized_for_its_worst():
    """The instance that is recommended holds 400 days with refusals and stays 30 % empty."""
    one = sizing.memory(10_000, MEASURED)
    assert one.full_bytes == 10_000 * 67_500
    assert one.refused_bytes <= one.capacity_gb * 2**30 * sizing.REDIS_FULL
    assert one.refused_bytes > (one.capacity_gb - 1) * 2**30 * sizing.REDIS_FULL


def test_a_ledger_of_400_days_takes_what_the_tables_say(own_redis):
    """MEMORY USAGE of the real Redis is within a tenth of the figure, with and without refusals."""
    measured = tables.read("measured.toml")
    with redis.Redis.from_url(own_redis.url) as client:
        for refused in (False, True):
            found = capacity.ledger_bytes(client.execute_command, 400, refused=refused)
            told = measured[f"redis_ledger_bytes_400_days{'_refused' * refused}"]
            assert found == pytest.approx(told, rel=0.1)
