"""What a decision tells the caller in headers: the one place that knows their spelling. Pure.

`RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers-11 (May 2026), which
is not yet an RFC and may still rename its parameters; `X-RateLimit-*` speaks of the one limit that
is tightest, with `-Reset` in seconds from now. A limiter that could not answer says nothing about
limits: no header is better than a made-up one.
"""

from __future__ import annotations

from math import ceil

from api.limits.policy import OF_TENANT, Decision, LimitState

# The draft's registry of quota units; characters are not in it.
_UNITS = {"requests_per_minute": "requests", "concurrency": "concurrent-requests"}


def response_headers(decision: Decision) -> dict[str, str]:
    """Return the headers for the answer to the request that was decided."""
    headers: dict[str, str] = {}
    if decision.limits:
        tight = _tightest(decision)
        headers["RateLimit-Policy"] = ", ".join(_policy(state) for state in decision.limits)
        headers["RateLimit"] = ", ".join(_state(state, decision) for state in decision.limits)
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

    The concurrency cap counts only when it refused: a key that may run one request at a time
    would otherwise hear of nothing else.
    """
    for state in decision.limits:
        if state.name == decision.binding:
            return state
    windowed = [state for state in decision.limits if state.window_seconds]
    return min(windowed or decision.limits, key=lambda state: state.remaining / state.limit)


def _policy(state: LimitState) -> str:
    window = f";w={state.window_seconds}" if state.window_seconds else ""
    unit = _UNITS.get(state.name.removeprefix(OF_TENANT), "chars")
    return f'"{state.name}";q={state.limit}{window};qu="{unit}"'


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
