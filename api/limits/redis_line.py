"""The limiter's own way to Redis: a script is one command, already packed, on a warm connection.

redis-py connects, authenticates and speaks TLS; what it does around every command (arguments to
bytes one by one, a locked pool, retries, hooks) is left out: it costs more than the command.
Every call has the time-out of the connection, none is made twice, and whatever goes wrong is
RedisAwayError. Thread-safe: a connection is held by one call at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

Value = str | int


class RedisAwayError(Exception):
    """Redis did not answer in time, or not what it should; `str()` is for the log."""


def storage_options(timeout_seconds: float) -> dict[str, Any]:
    """Return how every Redis client on the request path is set: short time-outs, no retries."""
    return {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
    }


def bulk(*values: Value) -> bytes:
    """Return values as Redis reads them in a command."""
    raws = [str(value).encode() for value in values]
    return b"".join([b"$%d\r\n%b\r\n" % (len(raw), raw) for raw in raws])


class Script:
    """A Lua script and its digest; the common part comes before it."""

    def __init__(self, name: str) -> None:
        here = Path(__file__)
        parts = (here.with_name("common.lua"), here.with_name(name))
        self.text = "\n".join(part.read_text(encoding="utf-8") for part in parts)
        sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self._by_sha, self._by_text = bulk("EVALSHA", sha), bulk("EVAL", self.text)

    def commands(self, rest: bytes, count: int) -> tuple[bytes, bytes]:
        """Return the command by digest and by text; `rest` is `count` values, packed."""
        head = b"*%d\r\n" % (count + 2)
        return head + self._by_sha + rest, head + self._by_text + rest


class RedisLine:
    """Connections to one Redis; opens none before it is needed."""

    def __init__(self, redis_url: str, timeout_seconds: float) -> None:
        # RESP2 and no driver info: a new connection asks its first question without a handshake.
        # Any: redis-py's own types do not tell its blocking answers from its awaitable ones.
        self._redis: Any = redis.Redis.from_url(
            redis_url, protocol=2, driver_info=None, **storage_options(timeout_seconds)
        )
        self._idle: list[Any] = []  # taken and put back by one operation each: no lock is needed

    def run(self, script: Script, rest: bytes, count: int) -> Any:
        """Return a script's answer. Raise RedisAwayError."""
        by_sha, by_text = script.commands(rest, count)
        try:
            connection = self._connection()
            try:
                answer = self._ask(connection, by_sha)
            except redis.exceptions.NoScriptError:
                # A Redis that is new, or was emptied: once, with the whole text.
                answer = self._ask(connection, by_text)
            self._idle.append(connection)
        except redis.RedisError as exc:
            raise RedisAwayError(f"{type(exc).__name__}: {exc}") from exc
        return answer

    def read_hashes(self, names: Iterable[str]) -> list[dict[bytes, bytes]]:
        """Return hashes in one round trip. Raise RedisAwayError."""
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.hgetall(name)
                answer: list[dict[bytes, bytes]] = pipeline.execute()
        except redis.RedisError as exc:
            raise RedisAwayError(f"{type(exc).__name__}: {exc}") from exc
        return answer

    def ping(self) -> bool:
        """Return True. Raise RedisAwayError unless Redis answers."""
        try:
            return bool(self._redis.ping())
        except redis.RedisError as exc:
            raise RedisAwayError(f"{type(exc).__name__}: {exc}") from exc

    def close(self) -> None:
        while self._idle:
            self._idle.pop().disconnect()
        self._redis.close()

    def _connection(self) -> Any:
        """Return a connection with nothing to read: one that Redis closed meanwhile opens anew."""
        try:
            connection = self._idle.pop()
        except IndexError:
            pool = self._redis.connection_pool
            return pool.connection_class(**pool.connection_kwargs)
        try:
            stale = connection.can_read(0)
        except (redis.ConnectionError, redis.TimeoutError, OSError):
            stale = True
        if stale:
            connection.disconnect()
        return connection

    @staticmethod
    def _ask(connection: Any, command: bytes) -> Any:
        connection.send_packed_command((command,), check_health=False)
        return connection.read_response()
