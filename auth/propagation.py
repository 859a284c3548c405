"""Redis as the keyring's messenger: what version is current, who is revoked, who used what.

Nothing here is the truth: the secret store is. Every call has a short time-out and no retry; a
failure is PropagationUnavailableError, and for a second after one no further call is tried, so
that requests do not queue up behind a Redis that is away. Losing Redis loses no key and no
revocation, only the speed at which instances learn of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from auth.errors import AuthError
from auth.failures import KEPT_HOURS
from auth.ledger import DayUsage
from auth.propagation_keys import (
    GROUPS,
    failed_keys,
    keyring_pointer,
    keyring_pointer_copy,
    keyring_versions,
    last_used,
    ledger_name,
    revoked_marker,
    revoked_markers,
    rotation_begun,
    rotation_first_use,
    uses_since,
)

REQUEST_TIMEOUT_SECONDS = 0.05  # on the path of a request
ADMIN_TIMEOUT_SECONDS = 2.0
BREAK_SECONDS = 1.0
POINTER_SECONDS = 30 * 86_400  # afterwards instances put it back from the secret store
LEDGER_SECONDS = 401 * 86_400
FAILURES_SECONDS = (KEPT_HOURS + 1) * 3600
MAX_FAILING = 1000  # addresses, each for its reasons, that one hour tells apart
REVOKED_SECONDS = 7 * 86_400  # far longer than an instance may serve an old keyring
REVOKED_AT_ONCE = 100  # keys in one call, so that it ends within its time-out

# A document's version never goes back. The pointer grows with every change and is a clock's
# microseconds, so that it also grows across a Redis that was emptied. Where there is none Redis was
# (or is new), and does not know what was used before.
_PUBLISH = """
local pointer, versions, uses_since = KEYS[1], KEYS[2], KEYS[3]
local current = tonumber(redis.call('GET', pointer))
local changed = current == nil
redis.call('SET', uses_since, current and 0 or redis.call('TIME')[1], 'NX')
redis.call('EXPIRE', uses_since, ARGV[2])
for i = 3, #ARGV, 2 do
  local known = tonumber(redis.call('HGET', versions, ARGV[i]))
  if known == nil or tonumber(ARGV[i + 1]) > known then
    redis.call('HSET', versions, ARGV[i], ARGV[i + 1])
    changed = true
  end
end
if changed then
  local time = redis.call('TIME')
  current = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), (current or 0) + 1)
end
redis.call('SET', pointer, string.format('%.0f', current), 'EX', ARGV[1])
redis.call('EXPIRE', versions, ARGV[1])
return string.format('%.0f', current)
"""

# The copies that the limiter's scripts read, one under each hash tag. Two who publish at a time may
# tell theirs in either order.
_COPY = """
local known = tonumber(redis.call('GET', KEYS[1]))
if known == nil or tonumber(ARGV[1]) >= known then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
"""

# Raise the counters of one ledger to what the log adds up to; the month follows its days.
_RAISE = """
for i = 2, #ARGV, 4 do
  local day = ARGV[i]
  for j, counter in ipairs({'chars', 'requests', 'refused'}) do
    local field, told = day .. ':' .. counter, tonumber(ARGV[i + j])
    local more = told - math.max(0, tonumber(redis.call('HGET', KEYS[1], field)) or 0)
    if more > 0 then
      more = string.format('%.0f', more)
      redis.call('HINCRBY', KEYS[1], field, more)
      if counter == 'chars' then
        redis.call('HINCRBY', KEYS[1], string.sub(day, 1, 7) .. ':chars', more)
      end
    end
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""

# One more failure. When there are too many to tell apart, the least busy gives way: the counts by
# reason stay right, and who fails often is seen among any number of those who failed once.
_FAILED = """
local member, most = ARGV[1], tonumber(ARGV[3])
if not redis.call('ZSCORE', KEYS[1], member) and redis.call('ZCARD', KEYS[1]) >= most then
  redis.call('ZPOPMIN', KEYS[1])
end
redis.call('ZINCRBY', KEYS[1], 1, member)
redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
"""

T = TypeVar("T")


class PropagationUnavailableError(AuthError):
    """Redis did not answer in time, or was away a moment ago."""


@dataclass(frozen=True, slots=True)
class LastUse:
    """A key's last admitted request."""

    at: int  # Unix seconds
    address: str


class Propagation:
    """A connection pool to one Redis; safe to call from many threads."""

    def __init__(
        self,
        redis_url: str,
        *,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis.Redis.from_url(
            redis_url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        self._publish = self._redis.register_script(_PUBLISH)
        self._failed = self._redis.register_script(_FAILED)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._closed_until = 0.0

    def current_version(self, document: str) -> int | None:
        """Return the keyring's pointer, or None if Redis has none."""
        text = self._call(lambda: self._redis.get(keyring_pointer(document)))
        return None if text is None else int(cast("str", text))

    def versions(self, document: str) -> tuple[int | None, dict[str, int]]:
        """Return the pointer and each document's current version, as of one moment."""

        def read() -> list[Any]:
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.get(keyring_pointer(document))
                pipe.hgetall(keyring_versions(document))
                return pipe.execute()

        pointer, table = self._call(read)
        found = {name: int(number) for name, number in table.items()}
        return (None if pointer is None else int(pointer)), found

    def publish(self, document: str, versions: Mapping[str, int]) -> int:
        """Tell every instance of documents' new versions, and return the pointer."""
        flat: list[str | int] = [POINTER_SECONDS, LEDGER_SECONDS]
        for name, number in versions.items():
            flat += [name, number]
        keys = [keyring_pointer(document), keyring_versions(document), uses_since(document)]
        pointer = cast("str", self._call(lambda: self._publish(keys=keys, args=flat)))

        def copy() -> list[Any]:
            with self._redis.pipeline(transaction=False) as pipe:
                for group in range(GROUPS):
                    name = keyring_pointer_copy(document, group)
                    pipe.eval(_COPY, 1, name, pointer, str(POINTER_SECONDS))
                return pipe.execute()

        self._call(copy)
        return int(pointer)

    def revoke(self, tenant: str | None, *key_ids: str) -> None:
        """Mark keys as revoked: the next request is refused on every instance.

        Without a tenant, as when the store that knows it is away, whoever's they are.
        """

        def mark(some: Sequence[str]) -> None:
            with self._redis.pipeline(transaction=False) as pipe:
                for key_id in some:
                    ours = tenant is not None and [revoked_marker(tenant, key_id)]
                    for marker in ours or revoked_markers(key_id):
                        pipe.set(marker, "1", ex=REVOKED_SECONDS)
                pipe.execute()

        for first in range(0, len(key_ids), REVOKED_AT_ONCE):
            self._call(partial(mark, key_ids[first : first + REVOKED_AT_ONCE]))

    def revoked(self, tenant: str, key_ids: Sequence[str]) -> set[str]:
        """Return those of a tenant's keys whose marker is there."""

        def read() -> list[Any]:
            with self._redis.pipeline(transaction=False) as pipe:
                for key_id in key_ids:
                    pipe.exists(revoked_marker(tenant, key_id))
                return pipe.execute()

        answers = self._call(read) if key_ids else []
        return {key_id for key_id, marked in zip(key_ids, answers, strict=True) if marked}

    def first_use(self, tenant: str, key_id: str, started_at: int) -> int | None:
        """Return when (Unix seconds) a rotation's new secret was first used; None: never."""
        name = rotation_first_use(tenant, key_id, started_at)
        text = self._call(lambda: self._redis.get(name))
        return None if text is None else int(cast("str", text)) // 1000

    def rotation_begun(self, tenant: str, key_id: str, started_at: int, seconds: int) -> None:
        """Have Redis know for so long that it would know of the new secret's first use."""
        name = rotation_begun(tenant, key_id, started_at)
        self._call(lambda: self._redis.set(name, "1", ex=seconds))

    def knows_rotation(self, tenant: str, key_id: str, started_at: int) -> bool:
        """Say whether Redis has been there, and was not emptied, since the rotation began."""
        name = rotation_begun(tenant, key_id, started_at)
        return bool(self._call(lambda: self._redis.exists(name)))

    def last_used(self, tenant: str, key_ids: Iterable[str]) -> dict[str, LastUse]:
        """Return when and from where each of a tenant's keys was last admitted, if ever."""
        wanted = list(key_ids)

        def read() -> list[Any]:
            with self._redis.pipeline(transaction=False) as pipe:
                for key_id in wanted:
                    pipe.hmget(last_used(tenant, key_id), ["at", "address"])
                return pipe.execute()

        answers = self._call(read) if wanted else []
        return {
            key_id: LastUse(int(at), address or "")
            for key_id, (at, address) in zip(wanted, answers, strict=True)
            if at is not None
        }

    def uses_since(self, document: str) -> int | None:
        """Return since when (Unix seconds; 0: ever) uses were noted; None: Redis was emptied."""

        def read() -> list[Any]:
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.get(uses_since(document))
                pipe.exists(keyring_pointer(document))
                return pipe.execute()

        since, pointer = self._call(read)
        if since is None:
            return 0 if pointer else None
        return int(since)

    def ledgers(self, tenant: str, key_ids: Iterable[str]) -> list[dict[bytes, bytes]]:
        """Return the ledgers of a tenant's keys: see auth/ledger.py."""
        names = [ledger_name(tenant, key_id) for key_id in key_ids]

        def read() -> list[Any]:
            with self._redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hgetall(name)
                return pipe.execute()

        tables = self._call(read) if names else []
        return [
            {name.encode(): value.encode() for name, value in table.items()} for table in tables
        ]

    def raise_ledger(self, tenant: str, key_id: str, days: Iterable[DayUsage]) -> None:
        """Raise a key's counters to these; no key id: those that its tenant's caps go by."""
        flat: list[str | int] = [LEDGER_SECONDS]
        for one in days:
            flat += [one.day.isoformat(), one.chars, one.requests, one.refused]
        name = ledger_name(tenant, key_id)
        self._call(lambda: self._redis.eval(_RAISE, 1, name, *(str(value) for value in flat)))

    def count_failure(self, hour: int, reason: str, address: str) -> None:
        """Count a failed authentication."""
        flat: list[str | int] = [f"{reason} {address}", reason, MAX_FAILING, FAILURES_SECONDS]
        self._call(lambda: self._failed(keys=failed_keys(hour), args=flat))

    def failures(self, hours: Iterable[int]) -> list[tuple[dict[str, int], dict[str, int]]]:
        """Return for each hour the counts by reason, and those by `reason address`."""
        wanted = list(hours)

        def read() -> list[Any]:
            with self._redis.pipeline(transaction=False) as pipe:
                for hour in wanted:
                    by_address, by_reason = failed_keys(hour)
                    pipe.hgetall(by_reason)
                    pipe.zrange(by_address, 0, -1, withscores=True)
                return pipe.execute()

        answers = self._call(read)
        return [
            (
                {reason: int(count) for reason, count in by_reason.items()},
                {member: int(count) for member, count in by_address},
            )
            for by_reason, by_address in zip(answers[::2], answers[1::2], strict=True)
        ]

    def close(self) -> None:
        """Let go of the connections."""
        self._redis.close()

    def _call(self, command: Callable[[], T]) -> T:
        with self._lock:
            if self._monotonic() < self._closed_until:
                raise PropagationUnavailableError("Redis was away a moment ago")
        try:
            return command()
        except redis.RedisError as exc:
            with self._lock:
                self._closed_until = self._monotonic() + BREAK_SECONDS
            raise PropagationUnavailableError(f"Redis: {type(exc).__name__}") from exc
