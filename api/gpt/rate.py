"""How many characters a second the engine has lately made, idle time apart."""

from __future__ import annotations

from collections.abc import Callable

SPAN_SECONDS = 0.5  # of one measurement
WEIGHT = 0.3  # of the newest measurement


class Rate:
    """A running average. Not thread-safe by itself: one writer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.total = 0
        self.per_second = 0.0
        self._clock = clock
        self._since: float | None = None
        self._count = 0

    def add(self, count: int) -> None:
        now = self._clock()
        self.total += count
        self._count += count
        if self._since is None:
            self._since = now
        elapsed = now - self._since
        if elapsed >= SPAN_SECONDS:
            measured = self._count / elapsed
            known = self.per_second > 0
            self.per_second += (measured - self.per_second) * (WEIGHT if known else 1.0)
            self._since, self._count = now, 0

    def pause(self) -> None:
        """Leave out the time until the next `add`."""
        self._since, self._count = None, 0
