"""Waiting for what another thread or process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_SECONDS = 60.0  # a busy machine is slow; whatever takes longer does not happen


def wait_until(holds: Callable[[], object], what: str = "it") -> None:
    """Return once `holds()` is true. Fail, naming `what`, if it does not come true in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come true in time"
        time.sleep(0.02)
