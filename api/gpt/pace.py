"""How many steps to take at a time: few enough that text, stops and deadlines do not wait to be
seen, many enough that looking at them costs nothing.
"""

from __future__ import annotations

LOOK_SECONDS = 0.02  # between two looks; a reader is given text some 20 times a second
WEIGHT = 0.2  # of the newest measurement


class Pace:
    """A running average of a step's time. Not thread-safe by itself."""

    def __init__(self) -> None:
        self.steps = 1
        self._step_seconds = LOOK_SECONDS

    def took(self, steps: int, seconds: float) -> None:
        """Learn how long the last steps took."""
        if steps:
            self._step_seconds += (seconds / steps - self._step_seconds) * WEIGHT
            self.steps = max(1, int(LOOK_SECONDS / max(self._step_seconds, 1e-6)))
