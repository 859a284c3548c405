"""The programs and styles of the page travel compressed; nothing else does.

Streamlit leaves that to a proxy, which not everybody has. What is compressed is the same for
everybody and holds no secret, so that its length tells nothing (BREACH). A browser fetches each
file once, as its name changes with what it holds.
"""

from __future__ import annotations

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = "/static/"
LEVEL = 6


class CompressedStatic:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._compressed = app, GZipMiddleware(app, compresslevel=LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fitting = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        await (self._compressed if fitting else self._app)(scope, receive, send)
