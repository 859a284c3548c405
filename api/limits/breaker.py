"""A circuit breaker: while what it guards is away, one caller a second pays to find out.

Thread-safe. It never sleeps and needs no thread of its own: the caller that is let through after
the pause is the probe, and everybody else is told to do without.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Breaker:
    """Closed (calls go through) until a failure; then open but for one probe each pause."""

    def __init__(self, pause_seconds: float, monotonic: Callable[[], float]) -> None:
        self._pause_seconds, self._monotonic = pause_seconds, monotonic
        self._lock = threading.Lock()
        self._probe_at: float | None = None  # None: closed

    @property
    def closed(self) -> bool:
        return self._probe_at is None

    def may_try(self) -> bool:
        """Return whether the caller should make its call; it then reports how that went."""
        if self._probe_at is None:
            return True
        with self._lock:
            now = self._monotonic()
            if self._probe_at is not None and now < self._probe_at:
                return False
            self._probe_at = now + self._pause_seconds  # the others wait for this probe
            return True

    def failed(self) -> bool:
        """Open, or stay open. Return whether this opened it."""
        with self._lock:
            opened = self._probe_at is None
            self._probe_at = self._monotonic() + self._pause_seconds
            return opened

    def succeeded(self) -> bool:
        """Close. Return whether this closed it."""
        if self._probe_at is None:
            return False
        with self._lock:
            closed = self._probe_at is not None
            self._probe_at = None
            return closed
