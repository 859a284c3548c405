"""Every answer carries the security headers; what Streamlit offers to strangers is closed.

Pure ASGI around the whole app: it adds headers to HTTP answers, answers 404 for Streamlit's
metrics and remote control, and refuses a WebSocket that a page of another origin opens, or that is
asked for by a name that is not ours, where ours are known. It needs nothing that could fail after
the start.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from web.sessions import is_https

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

CLOSED_PATHS = (
    "/_stcore/metrics",
    "/_stcore/agent",
    "/_stcore/upload_file",
    "/auth",
    "/oauth2callback",
)
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def content_security_policy(index_html: str) -> str:
    """Return the policy for Streamlit's page: nothing from elsewhere, no script but its own.

    Its one inline script is allowed by its hash. Its styles are made at run time, hence
    'unsafe-inline' for styles alone.
    """
    hashes = " ".join(
        "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() + "'"
        for script in _INLINE_SCRIPT.findall(index_html)
    )
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' {hashes}".rstrip(),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "frame-src 'none'",
            "frame-ancestors 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "object-src 'none'",
        )
    )


def streamlit_index() -> str:
    """Return the page that Streamlit serves."""
    import streamlit

    return (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")


class SecurityHeaders:
    """ASGI middleware."""

    def __init__(
        self, app: AsgiApp, policy: str, allowed_hosts: frozenset[str] = frozenset()
    ) -> None:
        self._app, self._allowed_hosts = app, allowed_hosts
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (
                b"permissions-policy",
                b"camera=(), geolocation=(), microphone=(), payment=(), usb=()",
            ),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not (
            _same_origin(scope) and _is_allowed_host(scope, self._allowed_hosts)
        ):
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # before accepting: HTTP 403
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = list(self._headers)
        if is_https(_header_map(scope), scope.get("scheme", "")):
            headers.append((b"strict-transport-security", b"max-age=31536000"))

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                ours = {name for name, _ in headers}
                kept = [pair for pair in message.get("headers", []) if pair[0].lower() not in ours]
                message["headers"] = kept + headers
            await send(message)

        if _is_closed(scope["path"]):
            await _not_found(send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


def _is_closed(path: str) -> bool:
    return any(path == closed or path.startswith(closed + "/") for closed in CLOSED_PATHS)


def _same_origin(scope: Scope) -> bool:
    """Tell whether a WebSocket comes from our own page, or from no page at all."""
    headers = _header_map(scope)
    origin = headers.get("origin")
    if origin is None:
        return True
    page = urlsplit(origin)
    # Behind a proxy that does not say so, TLS looks like none here: only the other way is foreign.
    in_clear = page.scheme != "https" and is_https(headers, scope.get("scheme", ""))
    return page.netloc == headers.get("host") and not in_clear


def _is_allowed_host(scope: Scope, allowed: frozenset[str]) -> bool:
    """Tell whether the browser asked for a name of ours: another's may lead here as well.

    For WebSockets alone, without which a page shows nothing: health checks ask by address.
    """
    return not allowed or _header_map(scope).get("host", "").lower() in allowed


def _header_map(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def _not_found(send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"9")]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": b"Not found"})
