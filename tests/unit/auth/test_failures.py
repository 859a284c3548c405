"""Failed authentications, by the hour: what is counted, how much of it is kept, how it is told."""

from __future__ import annotations

import redis

from auth import propagation
from auth.failures import KEPT_HOURS, SHOWN_ADDRESSES, network, told
from auth.propagation import Propagation


def test_an_address_stands_for_one_caller_however_it_is_spelt():
    """Of IPv6 the /64; IPv4 in IPv6's clothes is the same address; what is none is `unknown`."""
    assert network("192.0.2.1") == network("::ffff:192.0.2.1") == network("::FFFF:C000:0201")
    assert network("2001:db8::1") == network("2001:0DB8:0:0:ffff::9") == "2001:db8::/64"
    assert network("2001:db8:0:1::1") != network("2001:db8::1")
    assert {network(text) for text in ("", "qg_live_x", "1.2.3.4, 5.6.7.8", "1.2.3")} == {"unknown"}


def test_counts_add_up_over_hours_and_reasons(redis_url):
    """By reason, and for each address by reason; nobody's count is another's or another hour's."""
    counts = Propagation(redis_url, timeout_seconds=10)
    for hour, reason, address in [
        (100, "unknown", "192.0.2.1"),
        (100, "unknown", "192.0.2.1"),
        (100, "revoked", "192.0.2.2"),
        (101, "mismatch", "192.0.2.1"),
        (99, "missing", "192.0.2.3"),
    ]:
        counts.count_failure(hour, reason, address)
    assert told(2, 101 * 3600 + 5, counts.failures([100, 101])) == {
        "since": 100 * 3600,
        "total": 4,
        "by_reason": {"unknown": 2, "revoked": 1, "mismatch": 1},
        "others": 0,
        "addresses": [
            {"address": "192.0.2.1", "count": 3, "reasons": {"unknown": 2, "mismatch": 1}},
            {"address": "192.0.2.2", "count": 1, "reasons": {"revoked": 1}},
        ],
    }


def test_any_number_of_addresses_fit_and_the_busy_one_is_seen(redis_url, monkeypatch):
    """An hour holds so many; the counts by reason stay right, and nothing stays for ever."""
    monkeypatch.setattr(propagation, "MAX_FAILING", 20)
    counts = Propagation(redis_url, timeout_seconds=10)
    for number in range(150):
        counts.count_failure(7, "unknown", f"10.0.0.{number}")
        if number % 3 == 0:
            counts.count_failure(7, "mismatch", "192.0.2.66")
            counts.count_failure(7, "mismatch", "192.0.2.66")
    answer = told(1, 7 * 3600, counts.failures([7]))
    assert (answer["total"], answer["by_reason"]) == (250, {"unknown": 150, "mismatch": 100})
    assert answer["addresses"][0] == {
        "address": "192.0.2.66",
        "count": 100,
        "reasons": {"mismatch": 100},
    }
    assert answer["others"] == 250 - sum(one["count"] for one in answer["addresses"])
    with redis.Redis.from_url(redis_url) as client:
        names = list(client.scan_iter("qg:{failures}*"))
        assert len(names) == 2
        assert all(0 < client.ttl(name) <= (KEPT_HOURS + 1) * 3600 for name in names)
        assert client.zcard("qg:{failures}:7") == 20


def test_an_answer_has_a_length_that_can_be_read():
    """The busiest are listed, the rest is one number."""
    by_address = {f"unknown 10.0.{number}.1": number + 1 for number in range(200)}
    answer = told(1, 0, [({"unknown": sum(by_address.values())}, by_address)])
    assert len(answer["addresses"]) == SHOWN_ADDRESSES
    assert answer["addresses"][0]["count"] == 200
    assert answer["others"] == sum(range(1, 101))
