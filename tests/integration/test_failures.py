"""Failed authentications as an admin sees them: on the command line and through the API."""

from __future__ import annotations

import io
import json

import httpx
import pytest
import redis

from auth.__main__ import main
from auth.api_key import mint
from tests.support.live_api import LiveApi


@pytest.fixture
def failures(live_api: LiveApi, monkeypatch, capsys):
    """Return a function that tells what `python -m auth failures` does, on the stores or not."""
    monkeypatch.setenv("QUILLGATE_HOME", str(live_api.home))
    monkeypatch.setenv("QUILLGATE_ADMIN_KEY", live_api.issue(scopes=("admin",))["key"])

    def read(*words: str):
        capsys.readouterr()
        assert main(["failures", "--json", *words]) == 0
        return json.loads(capsys.readouterr().out)

    return read


def status(live: LiveApi, key: str, forwarded: str) -> int:
    headers = {"X-API-Key": key, "X-Forwarded-For": forwarded}
    return httpx.get(live.server.url + "/v1/key", headers=headers, timeout=60).status_code


def of(answer, address: str):
    return next((one for one in answer["addresses"] if one["address"] == address), None)


def test_each_failure_is_counted_by_reason_and_address(live_api, failures):
    """On the stores and through the API alike; a good key from there is not a failure."""
    good, address = live_api.issue(), "2001:db8:5:5::1"
    revoked = live_api.issue()
    live_api.admin.keys.revoke(revoked["key_id"])
    before = failures()
    for key, expected in [
        (mint("live").reveal(), 401),
        (mint("live", good["key_id"]).reveal(), 401),
        (mint("live", good["key_id"]).reveal(), 401),
        (revoked["key"], 401),
        (good["key"], 200),
    ]:
        assert status(live_api, key, address) == expected
    direct, remote = failures(), failures("--api", live_api.server.url)
    reasons = {"unknown": 1, "mismatch": 2, "revoked": 1}
    for answer in (direct, remote):
        assert of(answer, "2001:db8:5:5::/64") == {
            "address": "2001:db8:5:5::/64",
            "count": 4,
            "reasons": reasons,
        }
        assert answer["total"] == before["total"] + 4
        for reason, count in reasons.items():
            assert answer["by_reason"][reason] == before["by_reason"].get(reason, 0) + count


def test_a_key_is_nowhere_in_it_wherever_a_caller_puts_one(live_api, failures):
    """In the header, in the address that a proxy would give, in another key's place: neither the
    answer nor Redis nor the log holds any of its secret."""
    good = live_api.issue()["key"]
    bad = mint("live").reveal()
    for key, forwarded in [(bad, "10.99.0.1"), (bad, good), (bad, bad), ("x", f"{bad}, {good}")]:
        assert status(live_api, key, forwarded) == 401
    used = httpx.post(
        live_api.server.url + "/generate",
        json={"num_chars": 1},
        headers={"X-API-Key": good, "X-Forwarded-For": good},
        timeout=60,
    )
    assert used.status_code == 200
    answer = failures()
    assert of(answer, "10.99.0.1")["count"] == 1
    assert of(answer, "unknown")["count"] >= 3
    held = io.StringIO(json.dumps(answer))
    with redis.Redis.from_url(live_api.redis.url, decode_responses=True) as client:
        for name in client.scan_iter("*"):
            held.write(name)
        for name in client.scan_iter("*", _type="zset"):
            held.write(repr(client.zrange(name, 0, -1)))
        for name in client.scan_iter("*", _type="hash"):
            held.write(repr(client.hgetall(name)))
    text = held.getvalue() + live_api.server.log
    assert [part for key in (good, bad) for part in (key, key[21:60]) if part in text] == []


def test_hours_are_checked_by_name(live_api, failures):
    """A week is kept; another number is refused with what is right."""
    key = live_api.issue(scopes=("admin",))["key"]
    for hours, expected in [("1", 200), ("168", 200), ("0", 422), ("169", 422), ("x", 422)]:
        answer = live_api.server.get(f"/v1/admin/failures?hours={hours}", key)
        assert answer.status_code == expected
    assert failures("--hours", "1")["since"] % 3600 == 0
