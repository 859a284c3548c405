"""The service as its callers meet it: `python -m bench.service --out DIR`, or one part of it with
`--only neighbours`, printed and not written.

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
from collections.abc import Iterator, Sequence
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


async def stream(port: int, key: str, chars: int, seed: int, prompt: str = "") -> tuple[float, int]:
    """Return the seconds to the first text, and how many characters came."""
    asked = {"num_chars": chars, "seed": seed, "stream": True} | (
        {"prompt": prompt} if prompt else {}
    )
    body = json.dumps(asked).encode()
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


def prompt_of(length: int, seed: int) -> str:
    """Return a prompt of so many characters, another for each seed so that none is kept."""
    letters = str(seed).translate(str.maketrans("0123456789", "ABCDEFGHIJ"))  # the demo's alphabet
    words = "Now is the winter of our discontent made glorious summer by this sun. " * 4
    return f"{letters} {words}"[:length]


async def reading(port: int, key: str, times: int, chars: int) -> dict[str, Any]:
    """As `in_turn`, each with a prompt of 250 characters."""
    firsts = []
    for seed in range(times):
        first, _ = await stream(port, key, chars, seed, prompt_of(250, seed))
        firsts.append(first * 1000)
        await asyncio.sleep(0.02 + seed % 7 * 0.003)
    return {"first_ms": firsts}


async def prompting(port: int, key: str, clients: int, chars: int) -> dict[str, Any]:
    """As `for_ever`, with prompts of 120 to 250 characters: mostly reading."""

    async def client(number: int) -> None:
        for turn in range(1_000_000):
            seed = number * 1_000_000 + turn
            with contextlib.suppress(OSError, SystemExit):
                await stream(port, key, chars, seed, prompt_of(120 + seed * 37 % 131, seed))

    await asyncio.gather(*(client(number) for number in range(clients)))
    return {}


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


CALLERS = {f.__name__: f for f in (together, in_turn, reading, for_ever, prompting, many)}


def caller(kind: str, service: Service, key: str, number: int, chars: int) -> Any:
    command = [sys.executable, "-m", "bench.service", "caller", kind, str(service.port), key,
               str(number), str(chars)]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def answer(kind: str, service: Service, key: str, number: int, chars: int) -> dict[str, Any]:
    out, _ = caller(kind, service, key, number, chars).communicate()
    return json.loads(out)


@contextlib.contextmanager
def flood(service: Service, key: str, kind: str, chars: int) -> Iterator[None]:
    """Another tenant holds 64 requests in flight."""
    process = caller(kind, service, key, 64, chars)
    time.sleep(1.5)
    yield
    process.kill()
    process.wait()
    time.sleep(1.5)  # the service sees that they went


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Return the median, the least and the most of the rounds."""
    found = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def shares(service: Service, key: str, rounds: int) -> dict[str, Any]:
    """32 streams of 1 000 characters from the engine, on each number of threads, and through all of
    the service; of each round the service's share of the engine."""
    cores = min(2, os.cpu_count() or 1)
    same = min(2, max(1, (os.cpu_count() or 1) - 1))  # as the service has by default
    raw: dict[int, list[float]] = {threads: [] for threads in range(1, cores + 1)}
    http = []
    with tempfile.TemporaryDirectory() as scratch:
        engine = Contestant("quillgate int8", Path("models/demo"), Path(scratch))
        for number in range(rounds):
            for threads, rates in raw.items():
                rates.append(32 * 1000 / engine.generate(32, 1000, threads))
            http.append(answer("together", service, key, 32, 1000)["rate"])
            progress("streams beside the engine", number, rounds)
        engine.close()
    best = max(raw, key=lambda threads: statistics.median(raw[threads]))

    def share(threads: int) -> dict[str, float]:
        return spread([h / r for h, r in zip(http, raw[threads], strict=True)], 3)

    return {
        "threads": same,
        "best_threads": best,
        "raw_chars_per_second": [round(x) for x in raw[same]],
        "best_raw_chars_per_second": [round(x) for x in raw[best]],
        "http_chars_per_second": [round(x) for x in http],
        "share": share(same),
        "share_of_best": share(best),
    }


# What the victim and its neighbour ask for: kind of caller, and characters of each text.
CASES = {
    "short texts beside long ones": (("in_turn", 60, 20), ("for_ever", 2000)),
    "prompts beside prompts": (("reading", 20, 60), ("prompting", 20)),
    "prompts beside long texts": (("reading", 20, 60), ("for_ever", 2000)),
}


def neighbours(service: Service, alone: str, noisy: str, rounds: int) -> dict[str, Any]:
    found = {}
    for name, ((kind, times, chars), (other, theirs)) in CASES.items():
        quiet, beside = [], []
        for number in range(rounds):
            quiet.append(answer(kind, service, alone, times, chars)["first_ms"])
            with flood(service, noisy, other, theirs):
                beside.append(answer(kind, service, alone, times, chars)["first_ms"])
            progress(name, number, rounds)
        found[name] = {
            "alone_p50_ms": spread([statistics.median(q) for q in quiet]),
            "alone_p95_ms": spread([p95(q) for q in quiet]),
            "beside_p50_ms": spread([statistics.median(b) for b in beside]),
            "beside_p95_ms": spread([p95(b) for b in beside]),
            "p95_ratio": spread([p95(b) / p95(q) for q, b in zip(quiet, beside, strict=True)]),
        }
    return found


def progress(what: str, number: int, rounds: int) -> None:
    print(f"service: {what}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)


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
    return {
        "import_torch_seconds": spread(torch),
        "health_seconds": spread(health),
        "ready_seconds": spread(ready),
        "ready_to_import_torch": spread([r / t for r, t in zip(ready, torch, strict=True)]),
    }


def memory(service: Service, key: str, requests: int) -> dict[str, Any]:
    command = "import torch, psutil; print(psutil.Process().memory_info().rss / 2**20)"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    answer("many", service, key, requests // 10, 1)  # what is kept for good is there then
    before = service.resident_mb()
    seen = []
    for number in range(10):
        answer("many", service, key, requests // 10, 1)
        seen.append(service.resident_mb())
        progress("memory", number, 10)
    return {
        "import_torch_mb": round(float(done.stdout)),
        "cache_mb": round(min(64, 16 * (os.cpu_count() or 1)) * SLOT_MB, 1),
        "after_a_tenth_mb": round(before, 1),
        "after_all_mb": round(seen[-1], 1),
        "each_tenth_mb": spread(seen, 1),
        "requests": requests,
    }


PARTS = ("start", "http", "neighbours", "memory")


def measured(rounds: int, requests: int, only: str | None) -> dict[str, Any]:
    """Measure one part or all of them, in this order: each starts from what the last one left."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home:
        service = Service(Path(home))
        a, b = service.key("a"), service.key("b")
        if only in {None, "start"}:
            result["start"] = starts(service, rounds)
        service.start()
        if only in {None, "http"}:
            result["http"] = shares(service, a, rounds)
        if only in {None, "neighbours"}:
            result["neighbours"] = neighbours(service, b, a, rounds)
        if only in {None, "memory"}:
            result["memory"] = memory(service, a, requests)
        service.stop()
    return result


def main() -> None:
    if sys.argv[1:2] == ["caller"]:
        kind, port, key, number, chars = sys.argv[2:]
        print(json.dumps(asyncio.run(CALLERS[kind](int(port), key, int(number), int(chars)))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where the table goes; not for one part")
    parser.add_argument("--only", choices=PARTS, help="measure one part")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=10_000)
    arguments = parser.parse_args()
    if (arguments.out is None) == (arguments.only is None):
        parser.error("give --out DIR for all of it, or --only PART")
    machine.ask_for_priority()
    begin, build = time.monotonic(), machine.begun(arguments.rounds)
    result = measured(arguments.rounds, arguments.requests, arguments.only)
    result["build"] = machine.ended(build)
    result["minutes"] = round((time.monotonic() - begin) / 60, 1)
    result["machine"] = machine.described()
    if arguments.only:
        print(json.dumps(result, indent=1))
        return
    report.service(result, arguments.out)


if __name__ == "__main__":
    main()
