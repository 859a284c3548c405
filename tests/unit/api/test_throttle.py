"""Counting bad keys: by address, on the shared Redis, and without it."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis


def fail(bench, address="127.0.0.1"):
    return bench.client.post(
        "/generate", json={}, environ_overrides={"REMOTE_ADDR": address}
    ).status_code


def test_addresses_are_counted_apart(bench):
    """One caller's failures are not another's; all of an IPv6 /64 are one caller."""
    for _ in range(30):
        assert fail(bench, "192.0.2.1") == 401
    assert fail(bench, "192.0.2.1") == 429
    assert fail(bench, "192.0.2.2") == 401
    for i in range(30):
        assert fail(bench, f"2001:db8::{i:x}") == 401
    assert fail(bench, "2001:db8::ffff") == 429
    assert fail(bench, "2001:db8:0:1::1") == 401


def test_two_instances_count_together(make_bench):
    """Going to another instance gives no new attempts."""
    one, two = make_bench(), make_bench()
    for i in range(30):
        assert fail((one, two)[i % 2]) == 401
    assert fail(one) == 429
    assert fail(two) == 429


def test_a_blocked_address_costs_no_look_up(bench):
    """Once blocked, a bad key is refused without asking the keyring's store or Redis."""
    for _ in range(31):
        fail(bench)
    bench.keyring.looked_up.clear()
    assert fail(bench) == 429
    assert bench.keyring.looked_up == [False]


def test_without_redis_the_instance_counts_alone(make_bench, own_redis):
    """Redis away opens no gate and fails no request."""
    bench = make_bench(redis_url=own_redis.url)
    own_redis.stop()
    for _ in range(30):
        assert fail(bench) == 401
    assert fail(bench) == 429


def test_a_redis_that_hangs_fails_no_one_of_many(make_bench, own_redis):
    """All who wait for it at the same time are counted in memory, not the first alone."""
    throttle = make_bench(redis_url=own_redis.url).app.extensions["quillgate"].throttle
    throttle.count_account_read("somebody")
    own_redis.process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(4) as pool:
        counted = [pool.submit(throttle.count_account_read, "somebody") for _ in range(4)]
    assert [one.exception() for one in counted] == [None] * 4


@pytest.mark.parametrize("address", ["", "not an address"])
def test_an_odd_address_is_still_counted(bench, address):
    """Nobody escapes the count by having no address."""
    for _ in range(30):
        fail(bench, address)
    assert fail(bench, address) == 429


def test_public_documents_are_counted_by_address(bench):
    """They cost work and need no key: an address has its rate; probes are never refused."""

    def read(path, address="192.0.2.1"):
        return bench.client.get(path, environ_overrides={"REMOTE_ADDR": address})

    for number in range(120):
        assert read(("/docs", "/openapi.json")[number % 2]).status_code == 200
    refused = read("/docs")
    assert (refused.status_code, refused.get_json()["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert read("/docs", "192.0.2.2").status_code == 200
    for path in ("/health", "/ready"):
        assert read(path).status_code == 200


def commands(redis_url, request):
    """Return what a request makes Redis do, without what the scripts do inside."""
    with redis.Redis.from_url(redis_url) as client:
        client.config_resetstat()
        request()
        stats = client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()}
    return {name: calls[name] for name in ("evalsha", "get", "ttl", "hgetall") if name in calls}


def test_a_bad_key_costs_two_commands_and_a_blocked_one_only_its_count(bench, redis_url):
    """The throttle's and the count: neither reads, and a flood costs Redis less, not more."""
    fail(bench)  # the scripts are loaded
    assert commands(redis_url, lambda: fail(bench)) == {"evalsha": 2}
    for _ in range(29):
        fail(bench)
    assert fail(bench) == 429
    assert commands(redis_url, lambda: fail(bench)) == {"evalsha": 1}


def test_a_clock_that_is_set_back_blocks_nobody_for_longer(bench, monkeypatch):
    """A remembered block ends within its minute whatever the clock does; Redis has the count."""
    for _ in range(31):
        fail(bench)
    throttle = bench.app.extensions["quillgate"].throttle
    now = throttle._clock
    monkeypatch.setattr(throttle, "_clock", lambda: now() - 86_400)
    assert not throttle.blocked("127.0.0.1")
