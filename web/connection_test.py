"""What of the way to the API works, step by step; a failed step tells why in a sentence."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from web.api_client import ApiClient, ApiError
from web.sentences import sentence
from web.user_api import UserApi

# Nothing was being written that could have been kept.
_WITHOUT_TEXT = {
    "stalled": "It does not answer: it may be starting, or hang. Try again in a minute.",
    "interrupted": "The connection broke off before the answer. Try again in a minute.",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One step: what was tried, whether it worked, and what was seen."""

    name: str
    works: bool
    seen: str


def check_connection(
    api: ApiClient,
    user_api: UserApi,
    username: str,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Check]:
    """Return the steps that were tried; what depends on a failed one is left out."""
    started = clock()
    try:
        health = api.get("/health")
    except ApiError as exc:
        return [Check("Reachable", works=False, seen=_seen(exc))]
    milliseconds = (clock() - started) * 1000
    checks = [Check("Reachable", works=True, seen=f"in {milliseconds:.0f} ms")]
    try:
        key = user_api.get(username, "/v1/key")
        name = key.get("name") if isinstance(key, dict) else None
        checks.append(Check("Key accepted", works=True, seen=str(name or "")))
    except ApiError as exc:
        checks.append(Check("Key accepted", works=False, seen=_seen(exc)))
    model = health.get("model") if isinstance(health, dict) else None
    if isinstance(model, dict):
        model = model.get("name")
    if model:
        checks.append(Check("Model", works=True, seen=str(model)))
    else:
        checks.append(Check("Model", works=False, seen="It is not loaded yet."))
    return checks


def _seen(error: ApiError) -> str:
    if error.code in _WITHOUT_TEXT:
        return _WITHOUT_TEXT[error.code]
    return sentence(error)
