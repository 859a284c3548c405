"""One generation under way: what came, how it stands, how it ended; it ends once.

All methods may be called from any thread. What happens at the end happens before anybody sees the
end: a page that draws an ended run finds its text among those of the visit.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from web.api_client import ApiError, GenerationCall


class RunState(StrEnum):
    """Where a run stands; the last three are final."""

    WAITING = "waiting"  # nothing has come yet
    WRITING = "writing"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as a page shows it."""

    state: RunState
    text: str
    body: Mapping[str, Any]  # what was asked for
    before: str  # the text that it goes on from
    seconds: float  # since the start, or from start to end
    summary: Mapping[str, Any]  # the API's `done` event; empty before
    error: ApiError | None
    retry_in_seconds: float  # of a refusal that named a time; 0 when it is over

    @property
    def num_chars(self) -> int:
        """How many characters were asked for."""
        return int(self.body["num_chars"])

    @property
    def running(self) -> bool:
        return self.state in (RunState.WAITING, RunState.WRITING)

    @property
    def blocks_generating(self) -> bool:
        """Tell whether the API would refuse another request now: a 429 not yet waited out."""
        return self.error is not None and self.error.status == 429 and self.retry_in_seconds > 0


class Run:
    """One generation, watched in tabs and begun in a login."""

    def __init__(
        self,
        *,
        username: str,
        tab: str,
        login_id: str,
        body: Mapping[str, Any],
        before: str,
        call: GenerationCall,
        now: float,
        at_end: Callable[[Run, RunView], None],
    ) -> None:
        self.run_id = secrets.token_urlsafe(9)
        self.username, self.login_id = username, login_id
        self.tabs = {tab}
        self.body, self.before = body, before
        self._lock = threading.Lock()
        self._call, self._at_end = call, at_end
        self._parts: list[str] = []
        self._state = RunState.WAITING
        self._summary: Mapping[str, Any] = {}
        self._error: ApiError | None = None
        self._started = now
        self._ended: float | None = None

    def view(self, now: float) -> RunView:
        with self._lock:
            return self._view(now)

    def add(self, text: str) -> None:
        with self._lock:
            if self._ended is None:
                self._state = RunState.WRITING
                self._parts.append(text)

    def end(
        self,
        state: RunState,
        now: float,
        *,
        summary: Mapping[str, Any] | None = None,
        error: ApiError | None = None,
    ) -> None:
        """Enter a final state; the first one holds."""
        with self._lock:
            if self._ended is None:
                self._state, self._ended = state, now
                self._summary, self._error = summary or {}, error
                self._at_end(self, self._view(now))

    def stop(self, now: float) -> None:
        """End at once, keeping the text; the connection is cut, so the API notices."""
        self.end(RunState.STOPPED, now)
        self._call.close()

    def replace_call(self, call: GenerationCall) -> bool:
        """Let Stop reach another connection; False if the run was stopped meanwhile."""
        with self._lock:
            if self._ended is not None:
                return False
            self._call = call
            return True

    def _view(self, now: float) -> RunView:
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        wait = self._error.retry_after_seconds if self._error else None
        ended = self._ended
        return RunView(
            state=self._state,
            text=self._parts[0] if self._parts else "",
            body=self.body,
            before=self.before,
            seconds=(now if ended is None else ended) - self._started,
            summary=self._summary,
            error=self._error,
            retry_in_seconds=max(0.0, ended + wait - now) if ended is not None and wait else 0.0,
        )
