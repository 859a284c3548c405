"""One API and the admin's key that asks it: what `python -m auth --api` sends and is answered.

What the API refuses is AdminRefusedError with the API's own sentence; an API that does not answer
in time, or not like this API, is too. Nothing is tried twice but what the API refused to begin
for its rate: it says when. A change whose answer was lost may have happened: the message says so.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import structlog

from auth.api_key import PATTERN
from auth.config import SettingsError
from auth.errors import AdminRefusedError

TIMEOUT_SECONDS = 60.0  # a change may have to wait for other writers
MAX_WAIT_SECONDS = 60.0  # for the rate at which one key may ask: a minute's at the longest
MAX_WAITS = 3  # in turn: others use the key as well

log = structlog.get_logger()

_LOOPBACK = re.compile(r"(127(\.[0-9]{1,3}){3}|localhost|::1)")


class AskedTooOftenError(AdminRefusedError):
    """The key asked more often than it may; nothing was begun."""

    def __init__(self, sentence: str, wait_seconds: float) -> None:
        super().__init__(sentence)
        self.wait_seconds = wait_seconds


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key somewhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Remote:
    """One API and the key that asks it; never shows the key."""

    def __init__(self, url: str, key: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"--api must be a URL like https://api.example.com, not {url!r}")
        if parts.scheme == "http" and not _LOOPBACK.fullmatch(parts.hostname):
            raise SettingsError("--api must be https: the key would cross the network in clear")
        if not PATTERN.fullmatch(key):
            raise SettingsError("QUILLGATE_ADMIN_KEY must be an API key with the scope admin")
        self._url, self._key, self._sleep = url.rstrip("/"), key, sleep
        self._opener = urllib.request.build_opener(_NoRedirect)

    def ask(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """Return what a GET under /v1/admin answers."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return self._call("GET", path + (f"?{urlencode(given)}" if given else ""), None)

    def change(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return what a change under /v1/admin answers."""
        return self._call(method, path, body)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            f"{self._url}/v1/admin{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-API-Key": self._key, "Content-Type": "application/json"},
            method=method,
        )
        for _ in range(MAX_WAITS):
            try:
                return self._once(request)
            except AskedTooOftenError as exc:
                log.warning("api.waiting", seconds=exc.wait_seconds, reason=str(exc))
                self._sleep(exc.wait_seconds)
        return self._once(request)

    def _once(self, request: urllib.request.Request) -> Any:
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as exc:
            with exc:
                raise _refusal(exc, exc.read()) from exc
        except (OSError, ValueError) as exc:
            sure = request.method == "GET"
            unsure = "" if sure else "; the change may have been made: look before again"
            raise AdminRefusedError(
                f"{self._url} did not answer as the API: {exc}{unsure}"
            ) from exc


def _refusal(error: urllib.error.HTTPError, body: bytes) -> AdminRefusedError:
    sentence = _sentence(error.code, body)
    try:
        limited = json.loads(body)["code"] == "rate_limited"
        wait_seconds = float(error.headers["Retry-After"])
    except (ValueError, KeyError, TypeError):
        return AdminRefusedError(sentence)
    if not limited or wait_seconds > MAX_WAIT_SECONDS:
        return AdminRefusedError(sentence)
    return AskedTooOftenError(sentence, wait_seconds)


def _sentence(status: int, body: bytes) -> str:
    try:
        problem = json.loads(body)
        fields = "; ".join(f"{one['field']}: {one['message']}" for one in problem.get("errors", ()))
        return f"{problem['detail']} ({problem['code']})" + (f" {fields}" if fields else "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"the API answered {status}, and not like this API: is the URL right?"
