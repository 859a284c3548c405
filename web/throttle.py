"""Guessing passwords stays slow, and no stranger's guessing keeps a person out of a known browser.

In browsers in which a person never logged in, a name gets 50 attempts an hour from all addresses
together, and at most 10 of them from one address; so one address never uses up a name. A browser
in which that person has logged in (`known_browsers`) has its own 5 attempts in 5 minutes, and what
strangers do counts nothing there. So a guesser gets 50 an hour for each name, and 60 more for each
known browser whose cookie was stolen.

What remains: while five addresses or more go on guessing a name, its person waits in a browser
that is new to them. Counts live in this process: a restart forgets them.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from web.known_browsers import folded


@dataclass(frozen=True, slots=True)
class Window:
    """At most `attempts` counted attempts in any `seconds`."""

    attempts: int
    seconds: float


NAME_AND_ADDRESS = Window(5, 300)
SHARE_OF_ADDRESS = Window(10, 3600)  # of what NAME gives: one stranger must not fill it
ADDRESS = Window(20, 300)
NAME = Window(50, 3600)  # wide, as it is the one that strangers could fill for somebody else
KNOWN_BROWSER = Window(5, 300)
REMEMBERED = 20_000  # counters kept; beyond it the least recently used are forgotten
NAME_CHARS = 128  # of a name that are told apart: anything may be sent as one


class LoginThrottle:
    """Counts an attempt before the password is looked at; a success takes its count back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._attempts: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()

    def admit(self, name: str, address: str, browser: str | None = None) -> float:
        """Count one attempt and return 0, or return the seconds to wait and count nothing.

        `browser` tells the browsers apart in which this name has logged in before.
        """
        now = self._clock()
        counters = _counters(name, address, browser)
        with self._lock:
            wait = max(self._wait(key, window, now) for key, window in counters)
            if wait > 0:
                return wait
            for key, _ in counters:
                self._attempts.setdefault(key, deque()).append(now)
                self._attempts.move_to_end(key)
            while len(self._attempts) > REMEMBERED:
                self._attempts.popitem(last=False)
        return 0.0

    def succeeded(self, name: str, address: str, browser: str | None = None) -> None:
        """Forget the attempts of this name from this place; take this one off the others."""
        with self._lock:
            for key, window in _counters(name, address, browser):
                if window in (ADDRESS, NAME):
                    if attempts := self._attempts.get(key):
                        attempts.pop()
                else:
                    self._attempts.pop(key, None)

    def _wait(self, key: tuple[str, ...], window: Window, now: float) -> float:
        attempts = self._attempts.get(key)
        if attempts is None:
            return 0.0
        while attempts and attempts[0] <= now - window.seconds:
            attempts.popleft()
        if not attempts:
            del self._attempts[key]
            return 0.0
        if len(attempts) < window.attempts:
            return 0.0
        return attempts[0] + window.seconds - now


def _counters(
    name: str, address: str, browser: str | None
) -> tuple[tuple[tuple[str, ...], Window], ...]:
    who, network = folded(name)[:NAME_CHARS], _network(address)
    if browser is not None:
        return ((("browser", who, browser), KNOWN_BROWSER),)
    return (
        (("both", who, network), NAME_AND_ADDRESS),
        (("share", who, network), SHARE_OF_ADDRESS),
        (("address", network), ADDRESS),
        (("name", who), NAME),
    )


def _network(address: str) -> str:
    """Return what one client can hold many of as one: an IPv6 /64; anything else as it is."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))


def whole_seconds(seconds: float) -> int:
    """Return a wait as a person is told it: never 0 while there is one."""
    return max(1, math.ceil(seconds))
