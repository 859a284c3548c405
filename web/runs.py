"""Generations under way: each a thread that reads the API, which pages look at and may stop.

A run outlives the script runs that show it and ends with its text, its error, a Stop, its login or
its tab: a sweep notices a tab that has been gone for 5 s, and the API then sees the disconnect. No
run holds a key: its thread asks for it, and drops it.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from web.accounts import Accounts
from web.api_client import ApiClient, ApiError, GenerationCall
from web.logs import describe

TAB_GRACE_SECONDS = 5.0  # a tab that reconnects is away for about 1.5 s
FORGET_SECONDS = 180.0  # a finished run whose tab is gone; longer than a tab may reconnect
SWEEP_SECONDS = 1.0
_log = logging.getLogger(__name__)


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


@dataclass(frozen=True, slots=True)
class Wait:
    """Why, and for how long from now, the API would refuse a person's requests."""

    error: ApiError
    seconds: float


class Run:
    """One generation. All methods may be called from any thread."""

    def __init__(
        self,
        *,
        tab: str,
        login_id: str,
        body: Mapping[str, Any],
        call: GenerationCall,
        now: float,
    ) -> None:
        self.run_id = secrets.token_urlsafe(9)
        self.tab, self.login_id, self.body = tab, login_id, body
        self._lock = threading.Lock()
        self._call = call
        self._parts: list[str] = []
        self._state = RunState.WAITING
        self._summary: Mapping[str, Any] = {}
        self._error: ApiError | None = None
        self._started = now
        self._ended: float | None = None

    def view(self, now: float) -> RunView:
        with self._lock:
            if len(self._parts) > 1:
                self._parts = ["".join(self._parts)]
            wait = self._error.retry_after_seconds if self._error else None
            ended = self._ended
            return RunView(
                state=self._state,
                text=self._parts[0] if self._parts else "",
                body=self.body,
                seconds=(now if ended is None else ended) - self._started,
                summary=self._summary,
                error=self._error,
                retry_in_seconds=max(0.0, ended + wait - now)
                if ended is not None and wait
                else 0.0,
            )

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


class Runs:
    """Starts, finds and ends the runs of this process."""

    def __init__(
        self,
        api: ApiClient,
        accounts: Accounts,
        *,
        tab_is_open: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api, self._accounts, self._clock = api, accounts, clock
        self._tab_is_open = tab_is_open
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._tab_seen: dict[str, float] = {}
        self._waits: dict[str, tuple[float, ApiError]] = {}  # username -> until when, and why

    def start(
        self,
        *,
        username: str,
        tab: str,
        login_id: str,
        body: Mapping[str, Any],
        beside: str | None = None,
    ) -> str:
        """Begin a generation and return its id.

        The tab's earlier runs end and are forgotten, but for the one that it is to run beside.
        """
        now = self._clock()
        call = self._api.generation()
        run = Run(tab=tab, login_id=login_id, body=dict(body), call=call, now=now)
        with self._lock:
            earlier = [
                held for held in self._runs.values() if held.tab == tab and held.run_id != beside
            ]
            for held in earlier:
                del self._runs[held.run_id]
            self._runs[run.run_id] = run
            self._tab_seen[tab] = now
        for held in earlier:
            held.stop(now)
        threading.Thread(
            target=self._carry_out, args=(run, call, username, dict(body)), daemon=True
        ).start()
        return run.run_id

    def view(self, run_id: str | None) -> RunView | None:
        run = self._runs.get(run_id or "")
        return None if run is None else run.view(self._clock())

    def wait_of(self, username: str) -> Wait | None:
        """Return how long a 429 still holds for this person, in whatever tab it came."""
        until, error = self._waits.get(username, (0.0, ApiError("rate_limited")))
        seconds = until - self._clock()
        return Wait(error, seconds) if seconds > 0 else None

    def stop(self, run_id: str | None) -> None:
        run = self._runs.get(run_id or "")
        if run is not None:
            run.stop(self._clock())

    def stop_login(self, login_id: str) -> None:
        """Stop and forget all runs of one login, in every tab."""
        with self._lock:
            ended = [run for run in self._runs.values() if run.login_id == login_id]
            for run in ended:
                del self._runs[run.run_id]
        for run in ended:
            run.stop(self._clock())

    def sweep(self) -> None:
        """Stop the runs of tabs that are gone, and forget the old ones."""
        now = self._clock()
        with self._lock:
            runs = list(self._runs.values())
        for tab in {run.tab for run in runs}:
            if self._tab_is_open(tab):
                self._tab_seen[tab] = now
        for run in runs:
            away = now - self._tab_seen.get(run.tab, now)
            if away >= TAB_GRACE_SECONDS and run.view(now).running:
                run.stop(now)
            if away >= FORGET_SECONDS:
                with self._lock:
                    self._runs.pop(run.run_id, None)
                    self._tab_seen.pop(run.tab, None)

    def keep_swept(self, stop: threading.Event) -> None:
        """Sweep every second until `stop` is set, then stop every run."""
        while not stop.wait(SWEEP_SECONDS):
            self.sweep()
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            run.stop(self._clock())

    def _carry_out(
        self, run: Run, call: GenerationCall, username: str, body: Mapping[str, Any]
    ) -> None:
        try:
            key = self._accounts.key_of(username)
            try:
                self._read(run, call, key, body)
            except ApiError as refusal:
                if refusal.status != 401:
                    raise
                # The key was rotated elsewhere: read the new one and try once more.
                key = self._accounts.key_was_refused(username, key)
                call.close()
                call = self._api.generation()
                if run.replace_call(call):
                    self._read(run, call, key, body)
        except ApiError as exc:
            now = self._clock()
            if exc.status == 429 and exc.retry_after_seconds:
                self._keep_wait(username, now, exc)
            run.end(RunState.FAILED, now, error=exc)
        except Exception as exc:  # noqa: BLE001  # a run always ends
            _log.error("a generation failed unexpectedly: %s", describe(exc))
            run.end(RunState.FAILED, self._clock(), error=ApiError("bad_answer"))
        finally:
            call.close()

    def _keep_wait(self, username: str, now: float, error: ApiError) -> None:
        with self._lock:
            held = {name: wait for name, wait in self._waits.items() if wait[0] > now}
            self._waits = held | {username: (now + (error.retry_after_seconds or 0.0), error)}

    def _read(self, run: Run, call: GenerationCall, key: str, body: Mapping[str, Any]) -> None:
        for event in call.events(key, body):
            try:
                document = json.loads(event.data)
                if event.name == "done":
                    run.end(RunState.DONE, self._clock(), summary=document)
                else:
                    run.add(str(document["text"]))
            except (ValueError, KeyError, TypeError) as exc:
                raise ApiError("bad_answer") from exc
