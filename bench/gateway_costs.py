"""What a request costs beside its time: commands that Redis is sent, and processor time of each
process. The latter says where the time goes, and is steadier than requests per second where others
use the machine; only Linux tells it, elsewhere it is left out.
"""

from __future__ import annotations

import statistics
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import redis

from bench.closed_loop import Load

_PROC = Path("/proc")


def commands_per_request(client: redis.Redis, load: Load) -> dict[str, float]:
    """Ask a hundred times, and return what Redis says it was sent for each."""
    sent: dict[str, float] = {}
    for _ in range(2):  # the first warms connections and scripts, and sends the heartbeat
        client.config_resetstat()
        for number in range(100):
            headers = {load.header: load.keys[number % len(load.keys)]}
            headers["Content-Type"] = "application/json"
            url = f"http://127.0.0.1:{load.port}{load.path}"
            asked = urllib.request.Request(url, load.body.encode(), headers)
            urllib.request.urlopen(asked, timeout=30).read()  # noqa: S310 - our own http URL
        stats: Any = client.info("commandstats")
        sent = {
            name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) / 100
            for name in ("evalsha", "eval", "ping", "hello", "script|load")
        }
    return sent


class Costs:
    """The microseconds of processor that some processes took for each request of a contender."""

    def __init__(self, processes: dict[str, int]) -> None:
        """`processes` are process ids by name; their children count as they do."""
        self._processes = processes if _PROC.joinpath("self/schedstat").exists() else {}
        self._before: dict[str, float] = {}
        self._rounds: dict[str, dict[str, list[float]]] = {}

    def begin(self) -> None:
        self._before = self._now()

    def end(self, contender: str, requests: float) -> None:
        for name, after in self._now().items():
            rounds = self._rounds.setdefault(contender, {}).setdefault(name, [])
            rounds.append((after - self._before[name]) / max(1.0, requests))

    def of(self, contender: str) -> dict[str, float]:
        """Return the median over the rounds for each process; empty where it is not known."""
        rounds = self._rounds.get(contender, {})
        return {name: round(statistics.median(each), 1) for name, each in rounds.items()}

    def _now(self) -> dict[str, float]:
        return {
            name: sum(_microseconds(one) for one in _with_children(pid))
            for name, pid in self._processes.items()
        }


def _with_children(pid: int) -> Iterable[int]:
    yield pid
    for file in _PROC.glob(f"{pid}/task/*/children"):
        for child in file.read_text(encoding="ascii").split():
            yield from _with_children(int(child))


def _microseconds(pid: int) -> float:
    """Return what the process' threads have run so far; none may have ended meanwhile."""
    files = _PROC.glob(f"{pid}/task/*/schedstat")
    return sum(int(file.read_text(encoding="ascii").split()[0]) for file in files) / 1000
