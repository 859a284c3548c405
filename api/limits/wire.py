"""One connection to Redis on which a question is one write and its answer one read.

Whoever waits for a system call gives up the interpreter and has to win it back among all threads
that serve, so a question makes no more of them than it must: the kernel keeps the time-outs (of a
plain socket; under TLS Python does), and whether Redis hung up is looked at only after a pause.
What goes wrong is OSError or RedisError; then the connection is closed. Not thread-safe.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from typing import Any

import hiredis

# A connection that was used within this is not asked whether Redis closed it: if it did, one call
# fails as it does in any outage.
FRESH_SECONDS = 0.05
_CHUNK_BYTES = 65_536


class Wire:
    """Takes over a connection of redis-py's, which is opened here and closed by `close`."""

    def __init__(self, connection: Any, timeout_seconds: float) -> None:
        connection.connect()
        self._connection = connection
        self._socket: socket.socket = connection._get_socket()  # noqa: SLF001 - no public way
        self._reader = hiredis.Reader()
        self._used_at = time.monotonic()
        if not isinstance(self._socket, ssl.SSLSocket):
            self._socket.settimeout(None)
            microseconds = max(1, round(timeout_seconds * 1e6))
            limit = struct.pack("ll", *divmod(microseconds, 1_000_000))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def ask(self, command: bytes) -> Any:
        """Return the answer to a packed command; an error of Redis's is returned, not raised."""
        self.send(command)
        return self.receive()

    def send(self, command: bytes) -> None:
        """Ask, and leave the answer to `receive`; nothing else may be asked before that."""
        try:
            self._socket.sendall(command)
        except BaseException as exc:
            self._broken(exc)
            raise

    def receive(self) -> Any:
        """Return the answer to what was sent, as `ask` does."""
        answer: Any = False
        try:
            while answer is False:  # no answer of ours is: RESP2 has no booleans
                received = self._socket.recv(_CHUNK_BYTES)
                if not received:
                    raise ConnectionResetError("Redis closed the connection")
                self._reader.feed(received)
                answer = self._reader.gets()
        except BaseException as exc:
            self._broken(exc)
            raise
        self._used_at = time.monotonic()
        return answer

    def _broken(self, exc: BaseException) -> None:
        """Close: an answer may still come, which would be taken for that to the next question."""
        self.close()
        if isinstance(exc, BlockingIOError):
            raise TimeoutError("Redis did not answer in time") from exc

    def stale(self) -> bool:
        """Return whether there is something to read, which is the end or not for us."""
        if time.monotonic() - self._used_at < FRESH_SECONDS:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        self._connection.disconnect()
