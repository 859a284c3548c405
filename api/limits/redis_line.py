"""The limiter's own way to Redis: a script is one command, already packed, on a warm connection.

redis-py connects and authenticates; a command is then one write and one read (wire.py). What
redis-py does around it (arguments to bytes one by one, a locked pool, retries, hooks) is left out:
it costs more than the command. Every call has the time-out of the connection, none is made twice,
and whatever goes wrong is RedisAwayError. Thread-safe: a connection is held by one call at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from api.limits.wire import Wire

Value = str | int

CLIENT_FAULT = redis.RedisError  # what other clients of Redis raise, whatever went wrong
_AWAY = (redis.RedisError, hiredis.HiredisError, OSError)


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
    texts = [str(value) for value in values]
    packed = "".join([f"${len(text)}\r\n{text}\r\n" for text in texts])
    if packed.isascii():  # as good as always: then characters are bytes
        return packed.encode("ascii")
    raws = [text.encode() for text in texts]
    return b"".join([b"$%d\r\n%b\r\n" % (len(raw), raw) for raw in raws])


class Script:
    """A Lua script and its digest; the common part comes before it."""

    def __init__(self, name: str) -> None:
        here = Path(__file__)
        parts = (here.with_name("common.lua"), here.with_name(name))
        self.text = "\n".join(part.read_text(encoding="utf-8") for part in parts)
        sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self._by_sha, self._by_text = bulk("EVALSHA", sha), bulk("EVAL", self.text)

    def by_sha(self, rest: bytes, count: int) -> bytes:
        """Return the command that names the script; `rest` is `count` values, packed."""
        return b"*%d\r\n%b%b" % (count + 2, self._by_sha, rest)

    def by_text(self, rest: bytes, count: int) -> bytes:
        """Return the command that brings the script along."""
        return b"*%d\r\n%b%b" % (count + 2, self._by_text, rest)


class RedisLine:
    """Connections to one Redis; opens none before it is needed."""

    def __init__(self, redis_url: str, timeout_seconds: float) -> None:
        # RESP2 and no driver info: a new connection asks its first question without a handshake.
        # Any: redis-py's own types do not tell its blocking answers from its awaitable ones.
        self._redis: Any = redis.Redis.from_url(
            redis_url, protocol=2, driver_info=None, **storage_options(timeout_seconds)
        )
        self._timeout_seconds = timeout_seconds
        self._idle: list[Wire] = []  # taken and put back by one operation each: no lock is needed

    def run(self, script: Script, rest: bytes, count: int) -> Any:
        """Return a script's answer. Raise RedisAwayError."""
        return self.begin(script, rest, count)()

    def begin(self, script: Script, rest: bytes, count: int) -> Callable[[], Any]:
        """Send a script's question; what is returned has to be called, once, for the answer.

        That call waits, and raises RedisAwayError whatever went wrong; this one does neither.
        """
        try:
            wire = self._wire()
            wire.send(script.by_sha(rest, count))
        except _AWAY as exc:
            return partial(_raise, RedisAwayError(f"{type(exc).__name__}: {exc}"), exc)
        return partial(self._answer, wire, script, rest, count)

    def _answer(self, wire: Wire, script: Script, rest: bytes, count: int) -> Any:
        try:
            answer = wire.receive()
            if isinstance(answer, hiredis.ReplyError) and str(answer).startswith("NOSCRIPT"):
                # A Redis that is new, or was emptied: once, with the whole text.
                answer = wire.ask(script.by_text(rest, count))
        except _AWAY as exc:
            raise RedisAwayError(f"{type(exc).__name__}: {exc}") from exc
        if isinstance(answer, hiredis.ReplyError):
            wire.close()  # read only, say: the name may lead to another server by now
            full = "Redis is full: " if "OOM" in str(answer) else ""
            raise RedisAwayError(f"{full}{type(answer).__name__}: {answer}") from answer
        self._idle.append(wire)
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

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
        self._redis.close()

    def _wire(self) -> Wire:
        """Return a connection with nothing to read: one that Redis closed meanwhile opens anew."""
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread took the last one
                wire = self._idle.pop()
                if not wire.stale():
                    return wire
                wire.close()
        pool = self._redis.connection_pool
        return Wire(pool.connection_class(**pool.connection_kwargs), self._timeout_seconds)


def _raise(error: RedisAwayError, cause: BaseException) -> NoReturn:
    raise error from cause
