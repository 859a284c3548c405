"""Two API processes on one Redis behave as one service; the admin's commands reach both at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.support.cli import auth


def test_a_hundred_requests_at_once_admit_exactly_the_quota(world, issue, api_server):
    """10 requests a minute are 10 over both processes together, however they arrive.

    A bucket of 10 a minute gives one back every 6 s, so a machine on which the burst itself
    takes that long may admit just as many more, and no other.
    """
    key = issue("ten")["key"]
    servers = [api_server(**world), api_server(**world)]
    barrier = threading.Barrier(100)

    def call(i):
        barrier.wait(30)
        started.append(time.monotonic())
        return servers[i % 2].post("/generate", key, seed=i, num_chars=1)

    started = []
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(call, range(100)))
    refilled = int((time.monotonic() - min(started)) / 6)

    counts = Counter(answer.status_code for answer in answers)
    assert set(counts) == {200, 429}, counts
    assert 10 <= counts[200] <= 10 + refilled, (counts, refilled)
    assert {a.json()["code"] for a in answers if a.status_code == 429} == {"rate_limited"}
    assert all(int(a.headers["Retry-After"]) >= 1 for a in answers if a.status_code == 429)


class Loop(threading.Thread):
    """A client that calls both processes in turn with one key until told to end."""

    def __init__(self, servers, key):
        super().__init__(daemon=True)
        self.servers, self.key, self.answers, self.ending = servers, key, [], threading.Event()

    def run(self):
        for i in range(5_000):
            if self.ending.is_set():
                return
            self.answers.append(self.servers[i % 2].post("/generate", self.key, num_chars=1))

    def wait_for(self, more):
        goal = len(self.answers) + more
        for _ in range(600):
            if len(self.answers) >= goal:
                return
            self.ending.wait(0.1)
        raise AssertionError(f"{len(self.answers)} answers, {goal} awaited")

    def end(self):
        self.ending.set()
        self.join(30)


def test_rotation_refuses_no_request_and_revocation_every_next_one(world, issue, api_server):
    """A client on the old key loses nothing in the overlap; a revoked key is dead at once."""
    issued = issue("wide")
    old, key_id = issued["key"], issued["key_id"]
    servers = [api_server(**world), api_server(**world)]

    loop = Loop(servers, old)
    loop.start()
    loop.wait_for(10)
    new = auth(world, "keys", "rotate", key_id, "--deadline", "1h", "--grace", "1h")["key"]
    first_uses = [server.post("/generate", new, num_chars=1) for server in servers]
    loop.wait_for(20)
    loop.end()
    assert [answer.status_code for answer in first_uses] == [200, 200]
    assert Counter(answer.status_code for answer in loop.answers) == {200: len(loop.answers)}
    assert "Deprecation" in loop.answers[-1].headers
    assert "Sunset" in loop.answers[-1].headers
    assert "Deprecation" not in first_uses[0].headers

    auth(world, "keys", "revoke", key_id, "--reason", "leaked")
    for key in (new, old):
        refused = [server.post("/generate", key, num_chars=1) for server in servers]
        assert [answer.status_code for answer in refused] == [401, 401]
        assert {answer.json()["code"] for answer in refused} == {"invalid_key"}


def test_a_key_just_issued_works_at_once_on_both(world, issue, api_server):
    """Instances that were running before a key existed accept its very first request."""
    servers = [api_server(**world), api_server(**world)]
    key = issue("wide")["key"]
    assert [server.post("/generate", key, num_chars=1).status_code for server in servers] == [
        200,
        200,
    ]
