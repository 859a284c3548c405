"""What a decision tells the caller in headers: the one place that knows their spelling. Pure.

`RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers-11 (23 May 2026), the
newest that was found, which is no RFC and may still rename its parameters; `X-RateLimit-*` speaks
of the one limit that is tightest, with `-Reset` in seconds from now. A limiter that could not
answer says nothing about limits: no header is better than a made-up one.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

from api.limits.policy import OF_TENANT, Decision, LimitState

# The draft's registry of quota units; characters are not in it.
_UNITS = {"requests_per_minute": "requests", "concurrency": "concurrent-requests"}


def response_headers(decision: Decision) -> dict[str, str]:
    """Return the headers for the answer to the request that was decided."""
    headers: dict[str, str] = {}
    if decision.limits:
        tight = _tightest(decision)
        policies = tuple([(one.name, one.limit, one.window_seconds) for one in decision.limits])
        headers["RateLimit-Policy"] = _policies(policies)
        headers["RateLimit"] = ", ".join([_state(state, decision) for state in decision.limits])
        headers["X-RateLimit-Limit"] = str(tight.limit)
        headers["X-RateLimit-Remaining"] = str(tight.remaining)
        headers["X-RateLimit-Reset"] = str(_seconds(tight, decision))
    if decision.retry_after_ms is not None:
        headers["Retry-After"] = str(_retry_after_seconds(decision.retry_after_ms))
        headers["retry-after-ms"] = str(decision.retry_after_ms)
    return headers


def _retry_after_seconds(milliseconds: int) -> int:
    return max(1, ceil(milliseconds / 1000))


def _tightest(decision: Decision) -> LimitState:
    """Return the limit that refused, else the one with the least left.

    The concurrency caps count only when they refused: a key that may run one request at a time
    would otherwise hear of nothing else.
    """
    tight, least = decision.limits[0], 2.0
    for state in decision.limits:
        if state.name == decision.binding:
            return state
        part = state.remaining / state.limit if state.window_seconds else 1.5
        if part < least:
            tight, least = state, part
    return tight


@lru_cache(maxsize=1024)
def _policies(policies: tuple[tuple[str, int, int], ...]) -> str:
    return ", ".join(_policy(*policy) for policy in policies)


def _policy(name: str, limit: int, window_seconds: int) -> str:
    window = f";w={window_seconds}" if window_seconds else ""
    unit = _UNITS.get(name.removeprefix(OF_TENANT), "chars")
    return f'"{name}";q={limit}{window};qu="{unit}"'


def _state(state: LimitState, decision: Decision) -> str:
    seconds = _seconds(state, decision)
    return f'"{state.name}";r={state.remaining}' + (f";t={seconds}" if seconds else "")


def _seconds(state: LimitState, decision: Decision) -> int:
    """Return when the limit is whole again; of the limit that refused, when to try again.

    (The draft wants Retry-After no earlier than the time that the refusing limit tells.)
    """
    if state.name == decision.binding and decision.retry_after_ms is not None:
        return _retry_after_seconds(decision.retry_after_ms)
    return ceil(state.reset_seconds)
