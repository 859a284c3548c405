"""The web app as one ASGI application: Streamlit, our routes, and the headers around both."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from streamlit.runtime import Runtime
from streamlit.runtime import exists as runtime_exists

from web import streamlit_runs
from web.compressed_static import CompressedStatic
from web.logs import describe
from web.page_posts import draft_route, script_routes
from web.security_headers import SecurityHeaders, content_security_policy, streamlit_index
from web.services import Housekeeping, Services
from web.session_routes import session_routes

SCRIPT = Path(__file__).with_name("streamlit_app.py")
_log = logging.getLogger(__name__)


def create_app(services: Services) -> st.App:
    """Return the application; its housekeeping runs while it is served."""

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        housekeeping = Housekeeping(services)
        housekeeping.start()
        yield
        housekeeping.stop()

    streamlit_runs.lose_nothing()
    return st.App(
        SCRIPT,
        routes=[
            *session_routes(services.sessions, services.known_browsers),
            draft_route(services.sessions, services.visits),
            *script_routes(),
        ],
        middleware=[
            Middleware(
                SecurityHeaders,
                policy=content_security_policy(streamlit_index()),
                allowed_hosts=services.settings.allowed_hosts,
            ),
            Middleware(CompressedStatic),
        ],
        lifespan=lifespan,
        on_script_error=show_reference,
    )


def show_reference(exc: Exception) -> bool:
    """Show a failed page as a reference that the log has too, and nothing of the exception."""
    reference = secrets.token_hex(4)
    _log.error("page failed, reference %s: %s", reference, describe(exc))
    st.error(f"Something went wrong on this page. Reload it; if it stays, report {reference}.")
    return True


def tab_is_open(tab: str) -> bool:
    """Tell whether a browser tab is connected; without a Streamlit runtime every tab is."""
    return not runtime_exists() or Runtime.instance().is_active_session(tab)
