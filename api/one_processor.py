"""The threads that serve requests share one processor; those that generate have them all.

Only one thread of an interpreter runs Python at a time, and hands it on whenever it waits. On one
processor the next thread runs at once; on another it has to be woken first, which on a virtual
machine takes longer than most of what a request does (ADR 6). Where others want the same processor
the threads move together to one with more room. Linux only: elsewhere nothing is done.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

SUPPORTED = hasattr(os, "sched_setaffinity")
LOOK_SECONDS = 2.0
# Crowded: next to nothing of the processor is idle, and what runs there is not us.
FULL_BELOW_IDLE, OURS_BELOW = 0.05, 0.6
ROOM_FROM_IDLE = 0.3  # a processor worth moving to

_STATISTICS = Path("/proc/stat")
_IDLE = slice(4, 6)  # "idle" and "iowait" of a line "cpuN user nice system idle iowait ..."


class OneProcessor:
    """Where the threads that `join` run. `look` is to be called every second or so."""

    def __init__(self, idle_seconds: Callable[[], Mapping[int, float]] | None = None) -> None:
        self._idle_seconds = idle_seconds or _idle_seconds
        self._allowed = sorted(os.sched_getaffinity(0)) if SUPPORTED else []
        self._lock = threading.Lock()
        self._threads: list[tuple[int, int]] = []  # id, clock of its processor time
        self._looked_at = time.monotonic()
        self._idle_then: Mapping[int, float] = {}
        self._ours_then = 0.0
        self.chosen = secrets.choice(self._allowed) if len(self._allowed) > 1 else None

    def join(self) -> None:
        """Keep the calling thread, and those it starts, on the shared processor."""
        if self.chosen is None:
            return
        clock = time.pthread_getcpuclockid(threading.get_ident())
        with self._lock:
            self._threads.append((threading.get_native_id(), clock))
            os.sched_setaffinity(0, {self.chosen})

    def look(self) -> None:
        """Move all threads to a processor with room, if others fill this one."""
        now = time.monotonic()
        passed = now - self._looked_at
        if self.chosen is None or passed < LOOK_SECONDS:
            return
        with self._lock:
            ours = sum(time.clock_gettime(clock) for _, clock in self._threads)
            idle = self._idle_seconds()
            shares = {
                one: (idle[one] - self._idle_then[one]) / passed
                for one in self._allowed
                if one in idle and one in self._idle_then
            }
            better = roomier(self.chosen, shares, (ours - self._ours_then) / passed)
            self._looked_at, self._idle_then, self._ours_then = now, idle, ours
            # By a coin, so that two that crowd each other do not move together.
            if better is not None and secrets.randbelow(2):
                self.chosen = better
                for thread, _ in self._threads:
                    os.sched_setaffinity(thread, {better})


def roomier(here: int, idle: Mapping[int, float], ours: float) -> int | None:
    """Return the processor to move to, or None.

    `idle` is the share of time in which each processor had nothing to do, `ours` the share of one
    processor's time that our threads had.
    """
    if here not in idle or idle[here] >= FULL_BELOW_IDLE or ours >= OURS_BELOW:
        return None
    best = max(idle, key=idle.__getitem__)
    return best if idle[best] >= ROOM_FROM_IDLE else None


def _idle_seconds() -> dict[int, float]:
    """Return for how long each processor has been idle; nothing where the system does not tell."""
    try:
        lines = _STATISTICS.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    ticks = os.sysconf("SC_CLK_TCK")
    return {
        int(words[0][3:]): sum(map(int, words[_IDLE])) / ticks
        for words in map(str.split, lines)
        if words[0].startswith("cpu") and words[0] != "cpu"
    }
