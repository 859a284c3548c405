"""Over HTTP what a script cannot do: set the session cookie, HttpOnly and SameSite, and clear it.

A page that has just logged in holds a one-time ticket, which its own script posts here.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from web import known_browsers
from web.known_browsers import KNOWN_SECONDS, KnownBrowsers
from web.page_posts import is_our_page, posted_texts
from web.sessions import Sessions, cookie_name, is_https

MAX_TICKET_BYTES = 1024


def session_routes(sessions: Sessions, browsers: KnownBrowsers) -> list[Route]:
    """Return the routes; they keep no state beside `sessions`."""

    async def start(request: Request) -> Response:
        if not is_our_page(request):
            return Response(status_code=403)
        ticket = (await posted_texts(request, MAX_TICKET_BYTES)).get("ticket")
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
        if not is_our_page(request):
            return Response(status_code=403)
        response = Response(status_code=204, headers={"Cache-Control": "no-store"})
        https = is_https(request.headers, request.url.scheme)
        name = cookie_name(https=https)
        # The logout itself ended its session; a live one is of a later login in another tab.
        if sessions.read(request.cookies.get(name)) is None:
            response.delete_cookie(name, path="/", secure=https, httponly=True, samesite="strict")
        return response

    return [
        Route("/session/start", start, methods=["POST"]),
        Route("/session/end", end, methods=["POST"]),
    ]


def _keep(response: Response, name: str, value: str, seconds: int, *, https: bool) -> None:
    response.set_cookie(
        name, value, max_age=seconds, path="/", secure=https, httponly=True, samesite="strict"
    )
