"""The service as its callers meet it: `python -m bench.service --out DIR`.

A real `python -m api` with keys, Redis and the demo model, and callers in processes of their own on
the same machine. What is compared is measured in turns, round by round; figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from bench import machine, report
from bench.engine import Contestant

# Of keys and values, the demo model: 6 layers, 256 positions, 2 x (384 bytes and 6 scales).
SLOT_MB = 6 * 256 * 2 * (384 + 6 * 4) / 2**20
PLANS = """
[unlimited]
requests_per_minute = 10_000_000
chars_per_minute = 1_000_000_000
chars_per_day = 1_000_000_000
chars_per_month = 1_000_000_000
concurrency = 200
max_num_chars = 10_000
weight = 4
"""


class Service:
    """One process of the API on a port of its own."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        plans = home / "plans.toml"
        plans.write_text(PLANS, encoding="utf-8")
        self._environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "QUILLGATE_HOME": str(home),
            "PLANS_FILE": str(plans),
            "PORT": str(self.port),
            "LOG_FORMAT": "json",
            "REDIS_TIMEOUT_MS": "5000",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def key(self, tenant: str) -> str:
        """Add a tenant; return a key of it."""
        self._auth("tenants", "add", tenant, "--plan", "unlimited")
        issued = self._auth("keys", "issue", "--tenant", tenant, "--name", "bench",
                            "--scopes", "generate", "--json")  # fmt: skip
        return str(json.loads(issued)["key"])

    def start(self) -> dict[str, float]:
        """Start it; return the seconds until /health and /ready answered."""
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "api"], env=self._environ, stdout=subprocess.DEVNULL
        )
        found = {}
        for path in ("/health", "/ready"):
            while not self._answers(path):
                if self._process.poll() is not None:
                    raise SystemExit("the API ended")
                time.sleep(0.005)
            found[path] = time.perf_counter() - begin
        return found

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
            self._process = None

    def resident_mb(self) -> float:
        """Return what the worker holds: the largest of the service's processes."""
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        family = [parent, *parent.children(recursive=True)]
        return max(process.memory_info().rss for process in family) / 2**20

    def _answers(self, path: str) -> bool:
        with contextlib.suppress(OSError, urllib.error.URLError):
            url = f"http://127.0.0.1:{self.port}{path}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status == 200
        return False

    def _auth(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "auth", *arguments],
            env=self._environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"auth {' '.join(arguments)}: {done.stderr}")
        return done.stdout


# Callers: run in processes of their own by `python -m bench.service caller ...`.


async def stream(port: int, key: str, chars: int, seed: int) -> tuple[float, int]:
    """Return the seconds to the first text, and how many characters came."""
    body = json.dumps({"num_chars": chars, "seed": seed, "stream": True}).encode()
    begin = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /generate HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nX-API-Key: " + key.encode() + b"\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )
    received = b""
    first = 0.0
    while chunk := await reader.read(65536):
        received += chunk
        if not first and b"event: text" in received:
            first = time.perf_counter() - begin
    writer.close()
    count = 0
    for line in received.split(b"\n"):
        if line.startswith(b"data: ") and b'"text"' in line:
            count += len(json.loads(line[6:])["text"])
    if count != chars:
        raise SystemExit(f"{count} of {chars} characters came: {received[:300]!r}")
    return first, count


async def together(port: int, key: str, clients: int, chars: int) -> dict[str, Any]:
    """All at once, one request each; the rate is from the first start to the last end."""
    begin = time.perf_counter()
    done = await asyncio.gather(*(stream(port, key, chars, seed) for seed in range(clients)))
    seconds = time.perf_counter() - begin
    return {"rate": sum(count for _, count in done) / seconds}


async def in_turn(port: int, key: str, times: int, chars: int) -> dict[str, Any]:
    """One after the other, with a pause between; each one's time to the first text."""
    firsts = []
    for seed in range(times):
        first, _ = await stream(port, key, chars, seed)
        firsts.append(first * 1000)
        await asyncio.sleep(0.02 + seed % 7 * 0.003)
    return {"first_ms": firsts}


async def for_ever(port: int, key: str, clients: int, chars: int) -> dict[str, Any]:
    """So many in flight all the time, until the process is ended."""

    async def client(number: int) -> None:
        for seed in range(1_000_000):
            with contextlib.suppress(OSError, SystemExit):
                await stream(port, key, chars, number * 1_000_000 + seed)

    await asyncio.gather(*(client(number) for number in range(clients)))
    return {}


async def many(port: int, key: str, requests: int, _chars: int) -> dict[str, Any]:
    """So many requests of one character, eight at a time."""
    numbers = iter(range(requests))

    async def client() -> None:
        for seed in numbers:
            await stream(port, key, 1, seed)

    await asyncio.gather(*(client() for _ in range(8)))
    return {}


CALLERS = {f.__name__: f for f in (together, in_turn, for_ever, many)}


def caller(kind: str, service: Service, key: str, number: int, chars: int) -> Any:
    command = [sys.executable, "-m", "bench.service", "caller", kind, str(service.port), key,
               str(number), str(chars)]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def answer(kind: str, service: Service, key: str, number: int, chars: int) -> dict[str, Any]:
    out, _ = caller(kind, service, key, number, chars).communicate()
    return json.loads(out)


@contextlib.contextmanager
def flood(service: Service, key: str) -> Iterator[None]:
    """Another tenant holds 64 requests in flight."""
    process = caller("for_ever", service, key, 64, 2000)
    time.sleep(1.5)
    yield
    process.kill()
    process.wait()
    time.sleep(1.5)  # the service sees that they went


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def shares(service: Service, key: str, rounds: int) -> dict[str, Any]:
    """32 streams of 1 000 characters from the engine, and through all of the service."""
    threads = max(1, (os.cpu_count() or 1) - 1)  # as the service has by default
    raw, http = [], []
    with tempfile.TemporaryDirectory() as scratch:
        engine = Contestant("quillgate int8", Path("models/demo"), Path(scratch))
        for _ in range(rounds):
            raw.append(32 * 1000 / engine.generate(32, 1000, threads))
            http.append(answer("together", service, key, 32, 1000)["rate"])
        engine.close()
    share = statistics.median(h / r for h, r in zip(http, raw, strict=True))
    return {
        "raw_chars_per_second": [round(x) for x in raw],
        "http_chars_per_second": [round(x) for x in http],
        "share": round(share, 3),
    }


def neighbours(service: Service, alone: str, noisy: str, rounds: int) -> dict[str, Any]:
    quiet, beside = [], []
    for _ in range(rounds):
        quiet.append(answer("in_turn", service, alone, 60, 20)["first_ms"])
        with flood(service, noisy):
            beside.append(answer("in_turn", service, alone, 60, 20)["first_ms"])
    ratios = [p95(b) / p95(q) for q, b in zip(quiet, beside, strict=True)]
    return {
        "alone_p50_ms": round(statistics.median(x for q in quiet for x in q), 2),
        "alone_p95_ms": round(statistics.median(map(p95, quiet)), 2),
        "beside_p50_ms": round(statistics.median(x for b in beside for x in b), 2),
        "beside_p95_ms": round(statistics.median(map(p95, beside)), 2),
        "p95_ratio": round(statistics.median(ratios), 2),
    }


def starts(service: Service, rounds: int) -> dict[str, Any]:
    torch, health, ready = [], [], []
    for _ in range(rounds):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        torch.append(time.perf_counter() - begin)
        found = service.start()
        health.append(found["/health"])
        ready.append(found["/ready"])
        service.stop()
    ratio = statistics.median(r / t for r, t in zip(ready, torch, strict=True))
    return {
        "import_torch_seconds": round(statistics.median(torch), 2),
        "health_seconds": round(statistics.median(health), 2),
        "ready_seconds": round(statistics.median(ready), 2),
        "ready_to_import_torch": round(ratio, 2),
    }


def memory(service: Service, key: str, requests: int) -> dict[str, Any]:
    command = "import torch, psutil; print(psutil.Process().memory_info().rss / 2**20)"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    answer("many", service, key, requests // 10, 1)  # what is kept for good is there then
    before = service.resident_mb()
    answer("many", service, key, requests, 1)
    return {
        "import_torch_mb": round(float(done.stdout)),
        "cache_mb": round(min(64, 16 * (os.cpu_count() or 1)) * SLOT_MB, 1),
        "after_a_tenth_mb": round(before, 1),
        "after_all_mb": round(service.resident_mb(), 1),
        "requests": requests,
    }


def main() -> None:
    if sys.argv[1:2] == ["caller"]:
        kind, port, key, number, chars = sys.argv[2:]
        print(json.dumps(asyncio.run(CALLERS[kind](int(port), key, int(number), int(chars)))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=10_000)
    arguments = parser.parse_args()
    machine.ask_for_priority()
    with tempfile.TemporaryDirectory() as home:
        service = Service(Path(home))
        a, b = service.key("a"), service.key("b")
        result: dict[str, Any] = {"start": starts(service, arguments.rounds)}
        service.start()
        result["http"] = shares(service, a, arguments.rounds)
        result["neighbours"] = neighbours(service, b, a, arguments.rounds)
        result["memory"] = memory(service, a, arguments.requests)
        service.stop()
    result["machine"] = machine.described()
    report.service(result, arguments.out)


if __name__ == "__main__":
    main()
