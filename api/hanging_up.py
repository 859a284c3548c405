"""Close connections without waiting for the caller, and without losing the last answer.

A socket that is closed with unread bytes resets the connection, and the caller may lose the answer
just written (RFC 9112 section 9.6). So the end is sent first, and what still comes is read and
dropped until the caller ends too, within bounds of time and bytes. gunicorn does that in the one
loop that serves everybody; here the loop goes on meanwhile. Used from that loop's thread only.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

LINGER_SECONDS = 2.0
LINGER_BYTES = 64 * 1024
_READ_BYTES = 16 * 1024


@dataclass(slots=True)
class _Going:
    """A connection whose end was sent."""

    until: float
    close: Callable[[], None]
    bytes_left: int = LINGER_BYTES


class HangingUp:
    """The connections that are about to be closed."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._going: dict[socket.socket, _Going] = {}
        self._monotonic = monotonic

    def begin(
        self, poller: selectors.BaseSelector, sock: socket.socket, close: Callable[[], None]
    ) -> None:
        """Send the end; call `close` once the caller has ended, or was given the time."""
        try:
            sock.setblocking(False)
            sock.shutdown(socket.SHUT_WR)
        except OSError:  # the caller is gone already
            close()
            return
        self._going[sock] = _Going(self._monotonic() + LINGER_SECONDS, close)
        poller.register(sock, selectors.EVENT_READ, partial(self._read, poller))

    def look(self, poller: selectors.BaseSelector) -> None:
        """Close those whose time is over. To be called every second or so."""
        now = self._monotonic()
        for sock, going in list(self._going.items()):
            if going.until <= now:
                self._end(poller, sock)

    def _read(self, poller: selectors.BaseSelector, sock: socket.socket) -> None:
        going = self._going[sock]
        try:
            data = sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        going.bytes_left -= len(data)
        if not data or going.bytes_left <= 0:
            self._end(poller, sock)

    def _end(self, poller: selectors.BaseSelector, sock: socket.socket) -> None:
        going = self._going.pop(sock)
        poller.unregister(sock)
        going.close()
