"""Over HTTP what a script cannot do: set the session cookie, HttpOnly and SameSite, and clear it.

A page that has just logged in holds a one-time ticket, which its own script posts here. The posts
need a header that no other site can send without CORS, and there is none.
"""

from __future__ import annotations

import json
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from web import known_browsers
from web.known_browsers import KNOWN_SECONDS, KnownBrowsers
from web.sessions import Sessions, cookie_name, is_https

OWN_HEADER = "X-Requested-With"
OWN_HEADER_VALUE = "quillgate"
MAX_BODY_BYTES = 1024
_CALL_SCRIPT = Path(__file__).with_name("assets") / "call.js"


def session_routes(sessions: Sessions, browsers: KnownBrowsers) -> list[Route]:
    """Return the routes; they keep no state beside `sessions`."""

    async def start(request: Request) -> Response:
        if request.headers.get(OWN_HEADER) != OWN_HEADER_VALUE:
            return Response(status_code=403)
        ticket = await _ticket(request)
        redeemed = sessions.redeem(ticket) if ticket else None
        if redeemed is None:
            return Response(status_code=403)
        token, session = redeemed
        response = Response(status_code=204, headers={"Cache-Control": "no-store"})
        https = is_https(request.headers, request.url.scheme)

        name = cookie_name(https=https)
        before = sessions.read(request.cookies.get(name))
        if before is not None and before.login_id != session.login_id:
            sessions.end(before)  # its cookie is replaced: no logout could reach it any more
        _keep(response, name, token, sessions.seconds_left(session), https=https)
        if browsers.of_cookies(request.cookies, session.user, https=https) is None:
            known = known_browsers.cookie_name(session.user, https=https)
            _keep(response, known, browsers.token(session.user), KNOWN_SECONDS, https=https)
        return response

    async def end(request: Request) -> Response:
        if request.headers.get(OWN_HEADER) != OWN_HEADER_VALUE:
            return Response(status_code=403)
        response = Response(status_code=204, headers={"Cache-Control": "no-store"})
        https = is_https(request.headers, request.url.scheme)
        name = cookie_name(https=https)
        # The logout itself ended its session; a live one is of a later login in another tab.
        if sessions.read(request.cookies.get(name)) is None:
            response.delete_cookie(name, path="/", secure=https, httponly=True, samesite="strict")
        return response

    async def call_script(_request: Request) -> Response:
        return FileResponse(
            _CALL_SCRIPT, media_type="text/javascript", headers={"Cache-Control": "no-cache"}
        )

    return [
        Route("/session/start", start, methods=["POST"]),
        Route("/session/end", end, methods=["POST"]),
        Route("/assets/call.js", call_script, methods=["GET"]),
    ]


def _keep(response: Response, name: str, value: str, seconds: int, *, https: bool) -> None:
    response.set_cookie(
        name, value, max_age=seconds, path="/", secure=https, httponly=True, samesite="strict"
    )


async def _ticket(request: Request) -> str:
    """Return the ticket in the body, "" if there is none; read no more than a ticket needs."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return ""
    try:
        document = json.loads(body)
    except ValueError:
        return ""
    ticket = document.get("ticket") if isinstance(document, dict) else None
    return ticket if isinstance(ticket, str) else ""
