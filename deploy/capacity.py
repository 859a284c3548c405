"""`make capacity`: measure what one instance can do, for the tables of the documents.

Starts the API as a container would, with a Redis of its own and the demo model, drives it over
HTTP, and writes `deploy/measured.toml`. Each figure is the median of several rounds of this one
run, on this machine, with the load generator beside the service: a floor, not a promise. Anything
that does not answer ends the run with its sentence; nothing is written then.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import structlog

from auth.admin import Admin
from auth.admin_keys import KeyOrder
from auth.audit import Actor
from auth.config import AuthSettings
from auth.embedded_redis import ensure
from auth.names import Names
from auth.propagation_keys import ledger_name
from auth.stores import Stores, open_stores

OUTPUT = Path("deploy/measured.toml")
ROUNDS = 5
TEXT_CHARS = 300
KEYS = 700  # issued into one shard to see what a key costs the keyring: compressed, it is little
LEDGER_DAYS = 400
CALLERS = 32  # as many as the rows of an instance with two processors
UNBOUND = """
[unbound]
requests_per_minute = 100_000_000
chars_per_minute = 10_000_000_000
chars_per_day = 100_000_000_000
chars_per_month = 1_000_000_000_000
concurrency = 1_000
max_num_chars = 10_000
weight = 1
"""


@dataclass(frozen=True)
class Instance:
    """A running API and a key that no limit binds."""

    port: int
    key: str
    process: subprocess.Popen[bytes]
    start_seconds: float  # from its first instruction until /ready

    def call(self, connection: http.client.HTTPConnection, num_chars: int) -> bytes:
        body = json.dumps({"num_chars": num_chars, "seed": 1})
        headers = {"X-API-Key": self.key, "Content-Type": "application/json"}
        connection.request("POST", "/generate", body, headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise SystemExit(f"capacity: {answer.status} {said.decode()}")
        return said

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)


@contextmanager
def instance(environ: dict[str, str], key: str) -> Iterator[Instance]:
    port = free_port()
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "api"],
        env={**os.environ, **environ, "PORT": str(port)},
        stdout=subprocess.DEVNULL,
    )
    try:
        while not _ready(port):
            if process.poll() is not None or time.monotonic() - began > 180:
                raise SystemExit("capacity: the API did not get ready")
            time.sleep(0.02)
        yield Instance(port, key, process, time.monotonic() - began)
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def rate(api: Instance, callers: int, num_chars: int, each: int) -> float:
    """Return answered requests a second while so many callers ask `each` times without a pause."""

    def loop() -> None:
        connection = api.connection()
        for _ in range(each):
            api.call(connection, num_chars)
        connection.close()

    threads = [threading.Thread(target=loop) for _ in range(callers)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return callers * each / (time.monotonic() - began)


def alone_seconds(api: Instance) -> float:
    """Return how long one text takes when nothing else runs."""
    connection = api.connection()
    began = time.monotonic()
    api.call(connection, TEXT_CHARS)
    seconds = time.monotonic() - began
    connection.close()
    return seconds


def redis_cost(api: Instance, command: Callable[..., Any]) -> tuple[float, float]:
    """Return Redis's calls and microseconds for one request, as Redis itself counts them."""
    command("CONFIG", "RESETSTAT")
    connection = api.connection()
    requests = 200
    for _ in range(requests):
        api.call(connection, 1)
    connection.close()
    scripts = command("INFO", "commandstats")["cmdstat_evalsha"]
    return scripts["calls"] / requests, scripts["usec"] / requests


def redis_bytes(command: Callable[..., Any], key_id: str) -> int:
    """Return the memory of all that Redis keeps for one key in use."""
    return sum(
        command("MEMORY", "USAGE", name, "SAMPLES", 0) for name in command("KEYS", f"*{key_id}*")
    )


def ledger_bytes(command: Callable[..., Any], days: int, *, refused: bool) -> int:
    """Return the memory of the ledger of a key that was used, and perhaps refused, every day."""
    name, random = ledger_name("capacity", "ledger"), Random(0)  # noqa: S311 - figures
    for number in range(days):
        day = date(2026, 12, 31) - timedelta(days=number)
        command("HSET", name, f"{day}:chars", random.randint(10**5, 10**6))
        command("HSET", name, f"{day}:requests", random.randint(10**2, 10**4))
        command("HSET", name, f"{day:%Y-%m}:chars", random.randint(10**6, 10**8))
        if refused:
            command("HSET", name, f"{day}:refused", random.randint(1, 10**3))
    size = int(command("MEMORY", "USAGE", name, "SAMPLES", 0))
    command("DEL", name)
    return size


def keyring_bytes(stores: Stores, admin: Admin) -> float:
    """Return how much the keyring, of one shard here, grows with a key."""
    shard = Names(stores.settings.prefix).shard(0)

    def size() -> int:
        return len(stores.secrets.access(shard, "current").data)

    before = size()
    scopes = ("generate", "usage:read", "key:rotate")
    admin.bulk.issue([KeyOrder("capacity", f"key-{number}", scopes) for number in range(KEYS)])
    return (size() - before) / KEYS


def resident_mib(process: subprocess.Popen[bytes]) -> float:
    """Return the memory of the process and its worker."""
    import psutil  # type: ignore[import-untyped] # it has no types

    parent = psutil.Process(process.pid)
    family = (parent, *parent.children(recursive=True))
    return float(sum(member.memory_info().rss for member in family) / 2**20)


def measure() -> dict[str, float]:
    with ExitStack() as exits:
        home = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="qg-")))
        redis = exits.enter_context(ensure(home))
        plans = home / "plans.toml"
        plans.write_text(UNBOUND, encoding="utf-8")
        environ = {
            "QUILLGATE_HOME": str(home),
            "KEYRING_SHARDS": "1",
            "PLANS_FILE": str(plans),
            "MODEL_URI": "models/demo",
            "LOG_FORMAT": "json",
            "REDIS_TIMEOUT_MS": "1000",  # a machine that also makes the load is no outage
        }
        stores = open_stores(AuthSettings.from_env(environ), redis.url)
        admin = stores.admin(Actor("capacity", "local"))
        admin.set_up()
        admin.tenants.add("capacity", "unbound")
        issued = admin.keys.issue("capacity", "capacity", ("generate",))
        key, per_key = str(issued["key"]), keyring_bytes(stores, admin)
        starts = []
        for _ in range(2):  # the first warms the disk
            with instance(environ, key) as api:
                starts.append(api.start_seconds)
        api = exits.enter_context(instance(environ, key))
        starts.append(api.start_seconds)
        alone_seconds(api)  # warms
        rows: dict[str, list[float]] = {"alone": [], "texts": [], "smallest": []}
        for _ in range(ROUNDS):  # interleaved, so that a busy minute spoils no figure alone
            rows["alone"].append(alone_seconds(api))
            rows["texts"].append(rate(api, CALLERS, TEXT_CHARS, 2))
            rows["smallest"].append(rate(api, 8, 1, 50))
        import redis as client_library

        with client_library.Redis.from_url(redis.url) as client:
            client.flushall()  # what a rush left behind ends with its leases
            calls, microseconds = redis_cost(api, client.execute_command)
            kept = redis_bytes(client.execute_command, str(issued["key_id"]))
            ledgers = {
                f"redis_ledger_bytes_{days}_days{'_refused' * refused}": ledger_bytes(
                    client.execute_command, days, refused=refused
                )
                for days, refused in ((30, False), (LEDGER_DAYS, False), (LEDGER_DAYS, True))
            }
        memory = resident_mib(api.process)
        stores.close()
    median = statistics.median
    return {
        "text_chars": TEXT_CHARS,
        "chars_per_second": round(median(rows["texts"]) * TEXT_CHARS),
        "text_alone_seconds": round(median(rows["alone"]), 3),
        "smallest_requests_per_second": round(median(rows["smallest"])),
        "cold_start_seconds": round(median(starts[1:]), 1),
        "resident_mib": round(memory),
        "redis_calls_per_request": round(calls, 2),
        "redis_microseconds_per_request": round(microseconds),
        "redis_bytes_per_key": kept,
        **ledgers,
        "keyring_bytes_per_key": round(per_key),
    }


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    figures = measure()
    lines = [
        "# Written by `make capacity`: medians of one run, service and load on one machine.",
        f'measured = "{datetime.now(UTC):%Y-%m-%d}"',
        f'machine = "{os.cpu_count()} processors, {platform.machine()}"',
        *(f"{name} = {value}" for name, value in figures.items()),
    ]
    OUTPUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(OUTPUT.read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
