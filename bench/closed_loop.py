"""Load without tools: processes that each hold a few connections and ask again as soon as they are
answered. Used where `wrk` is not installed; it takes more of the machine than wrk does, from every
contender alike.
"""

from __future__ import annotations

import multiprocessing
import re
import selectors
import socket
import time
from dataclasses import dataclass
from typing import Any

PROCESSES = 2

_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Load:
    """Who is asked, and how; `keys` take turns."""

    port: int
    path: str
    body: str
    header: str  # the name of the one that carries the key
    prefix: str  # before the key
    keys: tuple[str, ...]

    def requests(self) -> list[bytes]:
        body = self.body.encode()
        return [
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"{self.header}: {self.prefix}{key}\r\n\r\n".encode()
            + body
            for key in self.keys
        ]


def measure(load: Load, connections: int, seconds: float) -> tuple[float, int]:
    """Return answers per second, and how many of them were not 200."""
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        share = max(1, connections // PROCESSES)
        answers = pool.starmap(_ask, [(load, share, seconds)] * PROCESSES)
    return sum(count for count, _ in answers) / seconds, sum(bad for _, bad in answers)


def _ask(load: Load, connections: int, seconds: float) -> tuple[int, int]:
    requests, selector = load.requests(), selectors.DefaultSelector()
    count = bad = turn = 0
    for _ in range(connections):
        one = socket.create_connection(("127.0.0.1", load.port))
        one.sendall(requests[turn % len(requests)])
        turn += 1
        selector.register(one, selectors.EVENT_READ, bytearray())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in selector.select(timeout=1):
            one, held = _socket(key.fileobj), key.data
            held += one.recv(65_536)
            if not _whole(held):
                continue
            count += 1
            bad += not held.startswith(b"HTTP/1.1 200")
            held.clear()
            one.sendall(requests[turn % len(requests)])
            turn += 1
    for key in list(selector.get_map().values()):
        _socket(key.fileobj).close()
    return count, bad


def _socket(found: Any) -> socket.socket:
    assert isinstance(found, socket.socket)
    return found


def _whole(held: bytearray) -> bool:
    head, gap, rest = bytes(held).partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return bool(gap) and length is not None and len(rest) >= int(length[1])
