"""Guessing passwords stays slow: failed attempts are counted per name and address, for a while.

Counts live in this process, so a restart forgets them. Every window ends by itself: nobody is
locked out for ever, and a stranger at another address cannot lock a person out within minutes.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """At most `attempts` counted attempts in any `seconds`."""

    attempts: int
    seconds: float


NAME_AND_ADDRESS = Window(5, 300)
ADDRESS = Window(20, 300)
NAME = Window(50, 3600)  # wide, as it is the one that strangers could fill for somebody else
REMEMBERED = 20_000  # counters kept; beyond it the least recently used are forgotten


class LoginThrottle:
    """Counts an attempt before the password is looked at; a success takes its count back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._attempts: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()

    def admit(self, name: str, address: str) -> float:
        """Count one attempt and return 0, or return the seconds to wait and count nothing."""
        now = self._clock()
        counters = _counters(name, address)
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

    def succeeded(self, name: str, address: str) -> None:
        """Forget the attempts of this name from this address; take this one off the others."""
        with self._lock:
            own, *others = (key for key, _ in _counters(name, address))
            self._attempts.pop(own, None)
            for key in others:
                if attempts := self._attempts.get(key):
                    attempts.pop()

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


def _counters(name: str, address: str) -> tuple[tuple[tuple[str, ...], Window], ...]:
    folded, network = name.strip().casefold(), _network(address)
    return (
        (("both", folded, network), NAME_AND_ADDRESS),
        (("address", network), ADDRESS),
        (("name", folded), NAME),
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
