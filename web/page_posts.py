"""What our own pages' scripts are, and what they post: nobody else's page can post the same.

The posts need a header that no other site can send without CORS, and there is none.
"""

from __future__ import annotations

import json
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from web.sessions import Sessions, cookie_name, is_https
from web.visits import Visits

OWN_HEADER = "X-Requested-With"
OWN_HEADER_VALUE = "quillgate"
MAX_DRAFT_BYTES = 1 << 16  # browsers send no more when a page goes
_ASSETS = Path(__file__).with_name("assets")
_SCRIPTS = ("call.js", "draft.js", "focus.js")


def is_our_page(request: Request) -> bool:
    """Tell whether a post comes from a page of ours."""
    return request.headers.get(OWN_HEADER) == OWN_HEADER_VALUE


async def posted_texts(request: Request, max_bytes: int) -> dict[str, str]:
    """Return the texts in the posted object, none if it is none; read no more than it needs."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            return {}
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    posted = document.items() if isinstance(document, dict) else ()
    return {name: text for name, text in posted if isinstance(text, str)}


def script_routes() -> list[Route]:
    """Return the routes of the scripts."""

    def route(name: str) -> Route:
        async def send(_request: Request) -> Response:
            return FileResponse(
                _ASSETS / name, media_type="text/javascript", headers={"Cache-Control": "no-cache"}
            )

        return Route(f"/assets/{name}", send, methods=["GET"])

    return [route(name) for name in _SCRIPTS]


def draft_route(sessions: Sessions, visits: Visits) -> Route:
    """Return the route to which a page that goes posts the prompt that was typed into it."""

    async def draft(request: Request) -> Response:
        name = cookie_name(https=is_https(request.headers, request.url.scheme))
        session = sessions.read(request.cookies.get(name))
        if session is None or not is_our_page(request):
            return Response(status_code=403)
        posted = await posted_texts(request, MAX_DRAFT_BYTES)
        # A page that was drawn in another login of this browser holds what is nobody else's.
        if posted.get("login") == session.tag and "prompt" in posted:
            visits.keep_draft(session, "prompt", posted["prompt"])
        return Response(status_code=204, headers={"Cache-Control": "no-store"})

    return Route("/session/draft", draft, methods=["POST"])
