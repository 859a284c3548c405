"""New keys and passwords whose person has not put them away yet: shown until then, in one tab.

Whoever clicks elsewhere ends the run that was to show one, wherever that run is; nobody could ever
see the secret then. So it is kept here in the moment in which the API gives it, and every page of
that tab shows it until "Done"; where the tab is gone, as after a reload, any other of its login. It
is in memory alone, and ends with the login or after ten minutes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

HELD_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class NewSecret:
    """What is to be copied, and what is told of it."""

    told: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Held:
    new: NewSecret
    tab: str
    login_id: str
    until: float


class NewSecrets:
    """All methods may be called from any thread."""

    def __init__(
        self,
        tab_is_open: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tab_is_open, self._clock = tab_is_open, clock
        self._lock = threading.Lock()
        self._held: list[_Held] = []

    def keep(self, tab: str, login_id: str, new: NewSecret) -> None:
        """Keep what a tab's login has just been given."""
        with self._lock:
            self._drop_old()
            self._held.append(_Held(new, tab, login_id, self._clock() + HELD_SECONDS))

    def of(self, tab: str, login_id: str) -> list[NewSecret]:
        """Return what is to be shown in a tab, the oldest first."""
        with self._lock:
            self._drop_old()
            own = [held for held in self._held if held.login_id == login_id]
        return [held.new for held in own if held.tab == tab or not self._tab_is_open(held.tab)]

    def put_away(self, new: NewSecret) -> None:
        """Forget one that its person has seen."""
        with self._lock:
            self._held = [held for held in self._held if held.new is not new]

    def withdraw(self, key_id: str) -> None:
        """Forget a key's secrets in every tab: they were taken back and open nothing."""
        with self._lock:
            self._held = [held for held in self._held if f"_{key_id}_" not in held.new.secret]

    def move(self, login_id: str, to_login_id: str) -> None:
        """Go on in another login of the same person: their password is another one."""
        with self._lock:
            self._held = [
                replace(held, login_id=to_login_id) if held.login_id == login_id else held
                for held in self._held
            ]

    def end(self, login_id: str) -> None:
        """Forget all that a login was given: it has ended."""
        with self._lock:
            self._held = [held for held in self._held if held.login_id != login_id]

    def _drop_old(self) -> None:
        self._held = [held for held in self._held if held.until > self._clock()]
