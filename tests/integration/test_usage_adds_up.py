"""What was answered, what was logged and what the ledger holds are one number."""

from __future__ import annotations

import concurrent.futures
import csv
import io
import itertools
import json
import time
from datetime import date

import httpx
import pytest
import redis

from api.limits.limiter import RedisLimiter
from auth.__main__ import main
from auth.ledger import from_log
from auth.propagation import Propagation
from tests.support.api_bench import GOOD, PRINCIPAL
from tests.support.api_server import ApiServer

ALPHABET = "abcdefghij"
FAIL_AFTER = 120


@pytest.fixture
def server(redis_url):
    server = ApiServer(
        {"REDIS_URL": redis_url, "SECONDS_PER_CHAR": "0.001", "FAIL_AFTER": str(FAIL_AFTER)},
        module="tests.support.scripted_server",
    ).wait_ready()
    yield server
    server.stop()


@pytest.fixture
def limiter(redis_url):
    limiter = RedisLimiter(redis_url, timeout_seconds=10)
    yield limiter
    limiter.close()


def used(limiter: RedisLimiter) -> tuple[int, int, int]:
    rows = limiter.usage(PRINCIPAL.tenant, [PRINCIPAL.key_id], date.min, date.max)
    return (
        sum(row.chars for row in rows),
        sum(row.requests for row in rows),
        sum(row.refused for row in rows),
    )


class Caller:
    """One who asks in every way there is, and remembers what it was told to have been charged."""

    def __init__(self, url: str, number: int) -> None:
        self.client = httpx.Client(base_url=url, headers={"X-API-Key": GOOD}, timeout=60)
        self.number, self.charged, self.refused = number, 0, 0
        self.untold: list[str] = []  # the ids of requests whose charge only the log tells

    def post(self, path: str = "/generate", headers=None, **fields):
        return self.client.post(path, json=fields, headers=headers)

    def whole(self) -> None:
        body = self.post(seed=self.number, num_chars=60).json()
        assert len(body["text"]) == body["usage"]["charged_chars"] == 60
        self.charged += 60

    def stopped(self) -> None:
        body = self.post(seed=0, num_chars=100, stop="e").json()
        assert len(body["text"]) <= body["usage"]["charged_chars"] < 100
        self.charged += body["usage"]["charged_chars"]

    def streamed(self) -> None:
        done = self.post(seed=1, num_chars=50, stream=True).text.split("event: done\ndata: ")[1]
        assert json.loads(done)["usage"]["charged_chars"] == 50
        self.charged += 50

    def again(self) -> None:
        headers = {"Idempotency-Key": f"again-{self.number}-{self.charged}"}
        bodies = [self.post(headers=headers, num_chars=40).json() for _ in range(2)]
        assert bodies[0]["text"] == bodies[1]["text"]
        self.charged += sum(body["usage"]["charged_chars"] for body in bodies)

    def completed(self) -> None:
        body = self.post("/v1/completions", max_tokens=30, seed=2).json()
        self.charged += body["usage"]["completion_tokens"]

    def goes_away(self) -> None:
        with self.client.stream(
            "POST", "/generate", json={"num_chars": 110, "stream": True}
        ) as one:
            for text in one.iter_text():
                if "event: text" in text:
                    break
        self.untold.append(one.headers["X-Request-Id"])  # on a busy machine it may have ended

    def breaks(self) -> None:
        """The engine fails: a stream pays for what it was handed, one JSON answer for nothing."""
        streamed, whole = self.post(num_chars=200, stream=True), self.post(num_chars=200)
        assert "event: error" in streamed.text
        assert whole.status_code == 500
        self.untold += [answer.headers["X-Request-Id"] for answer in (streamed, whole)]

    def cannot_be(self) -> None:
        assert self.post(num_chars=10_001).json()["code"] == "exceeds_plan"
        assert self.post(prompt="007", num_chars=9).json()["code"] == "prompt_not_encodable"
        assert self.post(num_chars=0).status_code == 422
        self.refused += 1  # by a limit; the other two cost nothing anywhere

    def ask(self, rounds: int) -> None:
        ways = [
            *(self.whole, self.stopped, self.streamed, self.again, self.completed),
            *(self.goes_away, self.breaks, self.cannot_be),
        ]
        for _, way in zip(range(rounds), itertools.cycle(ways[self.number :] + ways), strict=False):
            way()
        self.client.close()


def test_the_sum_of_all_answers_is_the_ledger(server, limiter, redis_url):
    """Whole, stopped, streamed, made again, broken off, failed and refused, all at once."""
    callers = [Caller(server.url, number) for number in range(6)]
    with concurrent.futures.ThreadPoolExecutor(len(callers)) as pool:
        list(pool.map(lambda one: one.ask(16), callers))
    expected = len(callers)

    def all_settled() -> bool:
        return limiter.peek(PRINCIPAL).limits[4].remaining == PRINCIPAL.plan.concurrency

    server.wait_until(all_settled, "the end of what callers left")
    chars, requests, refused = used(limiter)

    def lines() -> list[dict]:
        return server.events("generation.settled")

    server.wait_until(lambda: len(lines()) >= requests, "every log line")
    assert len(lines()) == requests
    assert sum(line["charged_chars"] for line in lines()) == chars
    untold = {name for one in callers for name in one.untold}
    silent = [line for line in lines() if line["request_id"] in untold]
    assert len(silent) == len(untold) > expected
    broken_off = [line for line in silent if line["finish_reason"] != "length"]
    assert {line["finish_reason"] for line in broken_off} >= {"aborted", "error"}
    of_ours = {line["finish_reason"] for line in broken_off if line["severity"] == "ERROR"}
    assert of_ours == {"error"}
    assert all(line["charged_chars"] < line["reserved_chars"] for line in broken_off)
    told = sum(one.charged for one in callers)
    assert told + sum(line["charged_chars"] for line in silent) == chars
    assert refused == sum(one.refused for one in callers)

    # Redis loses everything; the log has it all.
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert used(limiter) == (0, 0, 0)
    found = from_log(server.lines)
    propagation = Propagation(redis_url, timeout_seconds=10)
    for _ in range(2):  # once more changes nothing
        for (tenant, key_id), days in found.days.items():
            propagation.raise_ledger(tenant, key_id, days)
        assert used(limiter) == (chars, requests, refused)
    left = {state.name: state.remaining for state in limiter.peek(PRINCIPAL).limits}
    assert left["chars_per_day"] == PRINCIPAL.plan.chars_per_day - chars
    assert left["chars_per_month"] == PRINCIPAL.plan.chars_per_month - chars
    propagation.close()


def test_export_and_rebuild_on_the_command_line(live_api, tmp_path, monkeypatch, capsys):
    """CSV has a line a key and day; after Redis lost all, the service's own log restores it."""
    issued = live_api.issue(plan="free")
    live_api.admin.limits.set_caps(issued["tenant"], {"chars_per_month": 5000})
    for _ in range(3):
        assert live_api.server.post("/generate", issued["key"], num_chars=20).status_code == 200
    assert live_api.server.post("/generate", issued["key"], num_chars=1001).status_code == 422
    monkeypatch.setenv("QUILLGATE_HOME", str(live_api.home))

    def run(*words: str) -> str:
        capsys.readouterr()  # what the test itself did as an admin
        assert main(["usage", *words]) == 0
        return capsys.readouterr().out

    def rows() -> list[dict[str, str]]:
        return list(
            csv.DictReader(io.StringIO(run("export", "--csv", "--tenant", issued["tenant"])))
        )

    def tenants_left() -> int:
        return live_api.left(issued["key"])["tenant_chars_per_month"]

    before, left = rows(), tenants_left()
    assert left == 5000 - 60
    (row,) = before
    assert (row["key_id"], row["name"]) == (issued["key_id"], "test")
    assert (row["chars"], row["requests"], row["refused"]) == ("60", "3", "1")

    def logged() -> int:
        lines = live_api.server.events("generation.settled")
        return sum(line["key_id"] == issued["key_id"] for line in lines)

    live_api.server.wait_until(lambda: logged() == 3, "the log lines")
    with redis.Redis.from_url(live_api.redis.url) as client:
        client.flushall()
    assert rows() == []
    log = tmp_path / "api.log"
    log.write_text("starting\n" + live_api.server.log + '{"message": "generation.settled"}\n')
    for _ in range(2):
        told = json.loads(run("rebuild", "--from-log", str(log), "--json"))
        assert told["settled"] >= 3
        assert told["unreadable_lines"] == 1
        assert rows() == before
        assert tenants_left() == left
    answer = live_api.server.get("/v1/usage?group_by=key", issued["key"]).json()
    assert answer["total"] == {"chars": 60, "requests": 3, "refused": 1}


def test_exported_lines_of_cloud_logging_count_too():
    """A line wrapped in jsonPayload is the same line; one told twice counts once."""
    settled = {
        "message": "generation.settled",
        "lease_id": "a.9.1",
        "admitted_at_ms": 1_795_478_399_999,  # a millisecond before midnight, UTC
        "tenant": "acme",
        "key_id": "0123456789ab",
        "charged_chars": 7,
    }
    lines = [json.dumps({"jsonPayload": settled}), json.dumps(settled), "generation.settled"]
    found = from_log(lines)
    ((day,),) = found.days.values()
    assert (day.day, day.chars, day.requests) == (date(2026, 11, 23), 7, 1)
    assert (found.settled, found.unreadable) == (1, 0)
    assert time.gmtime(settled["admitted_at_ms"] // 1000).tm_mday == 23
