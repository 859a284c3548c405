"""Rates for what has no plan: bad keys and public documents by address, one's own account by key.

flask-limiter counts on the same Redis as the plans; while Redis is away it counts in this
process, by the same rates. A good key never comes here, so it costs no round trip. Each bad key
is also counted by its reason and address, for admins; what Redis does not take of that is in the
log alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from flask import Flask, g
from flask_limiter import Limiter, RateLimitExceeded

from api.errors import ProblemError
from api.limits.redis_line import CLIENT_FAULT, storage_options
from auth.failures import HOUR_SECONDS, network
from auth.propagation import PropagationUnavailableError

FAILED_KEYS = "30/minute"
BLOCKED_SECONDS = 60.0  # at the longest: that minute's
ACCOUNT_READS = "300/minute"
PUBLIC_READS = "120/minute"  # of the documents, by address; probes (/health, /ready) are free
PUBLIC_READS_USED_UP = "This address has read the public documents too often. Try again shortly."
MAX_BLOCKED = 10_000
TIMEOUT_SECONDS = 0.5  # of Redis; a refusal can wait longer than a good request may


class Throttle:
    """The flask-limiter of one app; a rate that is used up raises ProblemError 429."""

    def __init__(
        self,
        redis_url: str,
        *,
        redis_timeout_seconds: float,
        count_failure: Callable[[int, str, str], None] = lambda _hour, _reason, _network: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._count_failure = clock, count_failure
        self._blocked: dict[str, float] = {}
        # flask-limiter hangs hooks on its app that look at every request; here it is asked only
        # where something is counted, so its app is one that serves nothing.
        # `unix://` is redis-py's spelling; limits calls the same thing `redis+unix://`.
        self._app = Flask("throttle", static_folder=None)
        self._app.add_url_rule("/", "counted", str)  # where it counts
        limiter = Limiter(
            _counted,
            app=self._app,
            storage_uri=redis_url.replace("unix://", "redis+unix://", 1)
            if redis_url.startswith("unix://")
            else redis_url,
            storage_options=storage_options(max(redis_timeout_seconds, TIMEOUT_SECONDS)),
            in_memory_fallback_enabled=True,
            key_prefix="qg",
        )
        self._limiter = limiter
        self._failed_key = limiter.shared_limit(FAILED_KEYS, scope="failed_keys")(_nothing)
        self._account_read = limiter.shared_limit(ACCOUNT_READS, scope="account")(_nothing_else)

        self._public_read = limiter.shared_limit(PUBLIC_READS, scope="public")(_nothing_at_all)

    def blocked(self, address: str) -> bool:
        """Whether this process remembers that the address is out of failures."""
        return bool(self._blocked) and self._blocked_seconds(network(address)) > 0

    def count_failed_key(self, address: str, reason: str) -> None:
        """Count a failure of the address, for admins and against it."""
        caller = network(address)
        with suppress(PropagationUnavailableError):
            self._count_failure(int(self._clock()) // HOUR_SECONDS, reason, caller)
        if self.blocked(address):  # known: Redis need not be asked again
            wait_ms = max(1, round(self._blocked_seconds(caller) * 1000))
            raise ProblemError("too_many_failures", retry_after_ms=wait_ms)
        try:
            self._count(self._failed_key, caller, "too_many_failures")
        except ProblemError as exc:
            self._remember(caller, self._clock() + (exc.retry_after_ms or 0) / 1000)
            raise

    def count_account_read(self, key_id: str) -> None:
        self._count(self._account_read, key_id, "rate_limited")

    def count_public_read(self, address: str) -> None:
        self._count(self._public_read, network(address), "rate_limited", PUBLIC_READS_USED_UP)

    def _count(
        self, hit: Callable[[], None], who: str, code: str, detail: str | None = None
    ) -> None:
        try:
            self._count_once(hit, who, code, detail)
        except CLIENT_FAULT:
            # flask-limiter turns to its memory for the first thread that finds Redis away; those
            # that were waiting for it as well are told so, and find the memory now.
            self._count_once(hit, who, code, detail)

    def _count_once(self, hit: Callable[[], None], who: str, code: str, detail: str | None) -> None:
        # flask-limiter counts in a request only: in one of its own app's, whoever is served now.
        with self._app.test_request_context("/"):
            g.counted = who
            try:
                hit()
            except RateLimitExceeded as exc:
                limit = self._limiter.current_limit
                reset_at = limit.window.reset_time if limit is not None else 0
                wait_ms = max(1, round((reset_at - self._clock()) * 1000))
                raise ProblemError(code, detail, retry_after_ms=wait_ms) from exc

    def _blocked_seconds(self, network: str) -> float:
        left = self._blocked.get(network, 0.0) - self._clock()
        return left if left <= BLOCKED_SECONDS else 0.0  # the clock was set back meanwhile

    def _remember(self, network: str, until: float) -> None:
        if len(self._blocked) >= MAX_BLOCKED:
            self._blocked.clear()  # the shared count remains: this only saves look-ups
        self._blocked[network] = until


def _nothing() -> None:
    """What flask-limiter wraps: the count is the point."""


def _nothing_else() -> None:
    """A second one: flask-limiter knows wrapped functions by name."""


def _nothing_at_all() -> None:
    """A third, for the same reason."""


def _counted() -> str:
    return str(g.counted)
