"""The generations under way: each a thread that reads the API, which pages look at and may stop.

A run outlives the script runs that show it and ends with its text, its error, a Stop, its login or
its tab: a sweep notices a tab that has been gone for 5 s, and the API then sees the disconnect. No
run holds a key: its thread asks for it, and drops it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from web.accounts import Accounts
from web.api_client import ApiClient, ApiError, GenerationCall
from web.logs import describe
from web.run import Run, RunState, RunView

TAB_GRACE_SECONDS = 5.0  # a tab that reconnects is away for about 1.5 s
FORGET_SECONDS = 180.0  # a finished run whose tab is gone; longer than a tab may reconnect
SWEEP_SECONDS = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wait:
    """Why, and for how long from now, the API would refuse a person's requests."""

    error: ApiError
    seconds: float


class Runs:
    """Starts, finds and ends the runs of this process."""

    def __init__(
        self,
        api: ApiClient,
        accounts: Accounts,
        *,
        tab_is_open: Callable[[str], bool],
        at_end: Callable[[Run, RunView], None] = lambda _run, _view: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api, self._accounts, self._clock = api, accounts, clock
        self._at_end = at_end
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
        before: str = "",
        beside: str | None = None,
    ) -> str:
        """Begin a generation and return its id; `before` is the text that it goes on from.

        The tab's earlier runs end and are forgotten, but for the one that it is to run beside and
        those that another tab watches too.
        """
        now = self._clock()
        call = self._api.generation()
        run = Run(
            username=username,
            tab=tab,
            login_id=login_id,
            body=dict(body),
            before=before,
            call=call,
            now=now,
            at_end=self._at_end,
        )
        earlier = []
        with self._lock:
            for held in list(self._runs.values()):
                if held.run_id == beside:
                    continue
                held.tabs.discard(tab)
                if not held.tabs:
                    earlier.append(held)
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

    def watch(self, run_ids: Iterable[str], tab: str) -> None:
        """Let another tab keep these runs going: a page that was loaded anew, for one."""
        with self._lock:
            for run_id in run_ids:
                if run := self._runs.get(run_id):
                    run.tabs.add(tab)
                    self._tab_seen[tab] = self._clock()

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
            runs = {run: tuple(run.tabs) for run in self._runs.values()}
        for tab in {tab for tabs in runs.values() for tab in tabs}:
            if self._tab_is_open(tab):
                self._tab_seen[tab] = now
        for run, tabs in runs.items():
            away = now - max(self._tab_seen.get(tab, now) for tab in tabs)
            if away >= TAB_GRACE_SECONDS and run.view(now).running:
                run.stop(now)
            if away >= FORGET_SECONDS:
                with self._lock:
                    self._runs.pop(run.run_id, None)
        with self._lock:
            watching = {tab for run in self._runs.values() for tab in run.tabs}
            self._tab_seen = {tab: at for tab, at in self._tab_seen.items() if tab in watching}

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
