"""What the API says of a user's own key, remembered for a few seconds for each user.

Pages redraw on every keystroke that is committed; they must neither ask the API each time nor
hang on one that is away: a failure is remembered as well, for a shorter time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from web.api_client import ApiError
from web.user_api import UserApi

FRESH_SECONDS = 15.0
FAILURE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class AccountView:
    """GET /v1/key's answer, or why there is none."""

    document: Mapping[str, Any]
    error: ApiError | None = None

    @property
    def max_num_chars(self) -> int | None:
        """The most characters one request may ask for; None while unknown."""
        found = self.document.get("max_num_chars")
        return found if isinstance(found, int) and found > 0 else None


class AccountViews:
    """The views of all users of this process."""

    def __init__(self, user_api: UserApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._user_api, self._clock = user_api, clock
        self._lock = threading.Lock()
        self._held: dict[str, tuple[float, AccountView]] = {}

    def of(self, username: str) -> AccountView:
        """Return the user's view, at most a few seconds old."""
        now = self._clock()
        with self._lock:
            until, view = self._held.get(username, (0.0, AccountView({})))
        if until > now:
            return view
        try:
            view = AccountView(self._user_api.get(username, "/v1/key", glance=True))
        except ApiError as exc:
            view = AccountView({}, exc)
        lifetime = FRESH_SECONDS if view.error is None else FAILURE_SECONDS
        with self._lock:
            self._held[username] = (self._clock() + lifetime, view)
        return view

    def forget(self, username: str) -> None:
        """Ask anew next time: something was just used."""
        with self._lock:
            self._held.pop(username, None)
