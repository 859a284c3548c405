"""Three API processes on one Redis behind a round-robin proxy are one service to who calls it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.cli import auth


@pytest.fixture
def service(world, api_server, edge_proxy):
    """Return the three processes and the one address that callers know."""
    servers = [api_server(ready=False, **world) for _ in range(3)]
    for server in servers:
        server.wait_ready()
    return edge_proxy(*(server.port for server in servers)).url, servers


def test_three_instances_are_one_service(world, issue, service):
    """Limits, seeds, rotation, revocation and usage, each over all three in turn.

    A bucket of 10 a minute gives one back every 6 s: so many more may be admitted as the burst
    takes time on this machine, and no other.
    """
    url, servers = service

    def call(key, **fields):
        body = {"num_chars": 1, **fields}
        return httpx.post(f"{url}/generate", json=body, headers={"X-API-Key": key}, timeout=60)

    # Limits: ninety at once on ten a minute.
    ten, barrier = issue("ten")["key"], threading.Barrier(90)

    def at_once(_):
        barrier.wait(60)
        return call(ten)

    began = time.monotonic()
    with ThreadPoolExecutor(90) as pool:
        counts = Counter(answer.status_code for answer in pool.map(at_once, range(90)))
    refilled = int((time.monotonic() - began) / 6)
    assert set(counts) == {200, 429}
    assert 10 <= counts[200] <= 10 + refilled

    # The same seed gives the same text, whichever instance answers.
    issued = issue("wide")
    old, key_id = issued["key"], issued["key_id"]
    texts = {call(old, seed=7, num_chars=60, prompt="And").json()["text"] for _ in range(6)}
    assert len(texts) == 1

    # Rotation: who still uses the old secret loses nothing; the new one works everywhere at once.
    new = auth(world, "keys", "rotate", key_id, "--deadline", "1h", "--grace", "1h")["key"]
    both = [call(key).status_code for key in (new, old) * 6]
    assert both == [200] * 12

    # Revocation: the very next request, wherever it lands.
    auth(world, "keys", "revoke", key_id, "--reason", "leaked")
    assert [call(key).status_code for key in (new, old) * 3] == [401] * 6

    # Usage: what all instances served is one account.
    reader = issue("wide")["key"]
    usage = httpx.get(f"{url}/v1/usage?group_by=key", headers={"X-API-Key": reader}, timeout=60)
    used = {item["key_id"]: item for item in usage.json()["items"]}
    assert (used[key_id]["requests"], used[key_id]["chars"]) == (6 + 12, 6 * 60 + 12)

    # Each of them had its share of the work.
    assert all(server.events("generation.settled") for server in servers)
