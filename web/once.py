"""The same change, asked for again at once in one tab, is made once: a second click is no wish.

Streamlit ends a run when its person clicks again, wherever that run is. What it had asked the API
for is done then; the run after it would ask for it a second time, and is given that answer instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

AGAIN_SECONDS = 2.0  # after the change was made; then its answer is held no longer


class _Change:
    """A change under way or made; its lock is held while it is made."""

    def __init__(self, what: Hashable) -> None:
        self.what, self.lock = what, threading.Lock()
        self.made = False
        self.answer: Any = None


class Once:
    """The changes of the last moment. May be used from any thread."""

    def __init__(self, seconds: float = AGAIN_SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._changes: dict[str, _Change] = {}  # the last of each tab

    def do(self, tab: str, what: Hashable, make: Callable[[], Any]) -> Any:
        """Make the change called `what` and return its answer; raise what it raises.

        Where a tab asks for it while it is made or just after, it gets the same answer: unless it
        has changed something else in between. What failed was not made: it is tried again.
        """
        with self._lock:
            change = self._changes.get(tab)
            if change is None or change.what != what:
                change = self._changes[tab] = _Change(what)
        with change.lock:
            if not change.made:
                try:
                    change.answer, change.made = make(), True
                finally:
                    forget = threading.Timer(
                        self._seconds if change.made else 0.0, self._forget, (tab, change)
                    )
                    forget.daemon = True
                    forget.start()
            return change.answer

    def _forget(self, tab: str, change: _Change) -> None:
        with self._lock:
            if self._changes.get(tab) is change:
                del self._changes[tab]
