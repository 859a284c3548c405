"""The one place where a script run learns who is looking: cookie, tab, address, login, logout."""

from __future__ import annotations

import html
import secrets

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from web.accounts import Account
from web.client_address import client_address
from web.services import Services
from web.sessions import Session, cookie_name, is_https

_TOKEN = "_session_token"  # noqa: S105  # the name under which this tab holds its session token
_PENDING = "_pending_call"
ADMIN_ROLE = "admin"


def current(services: Services) -> tuple[Session, Account] | None:
    """Return the valid session of this tab and whose it is, as the users are now; else None.

    A tab's cookies are those of its connection: a login in this tab is in the tab's own state,
    until a reload brings it as a cookie.
    """
    token = st.session_state.get(_TOKEN) or _cookie()
    recognised = services.desk.recognise(token)
    if recognised is None:
        st.session_state.pop(_TOKEN, None)
    return recognised


def require(services: Services) -> tuple[Session, Account]:
    """Return the valid session; without one, or with a first password, nothing is drawn."""
    recognised = current(services)
    if recognised is None or recognised[1].must_change_password:
        st.rerun()
    return recognised


def require_admin(services: Services) -> tuple[Session, Account]:
    """Return the valid session of an admin; anybody else sees that there is nothing."""
    session, account = require(services)
    if ADMIN_ROLE not in account.roles:
        st.error("This page is for administrators.", icon=":material/lock:")
        st.stop()
    return session, account


def log_in(services: Services, username: str, password: str) -> None:
    """Begin a session in this tab. Raise LoginRefusedError."""
    token = services.desk.log_in(username, password, _address(services))
    st.session_state[_TOKEN] = token
    _ask_browser("/session/start", services.sessions.ticket(token))


def go_on(services: Services, account: Account) -> None:
    """Begin another session of the same person in this tab: their password is another one."""
    token = services.desk.start(account)
    st.session_state[_TOKEN] = token
    _ask_browser("/session/start", services.sessions.ticket(token))


def log_out(services: Services, session: Session) -> None:
    """End this login everywhere, and what this tab remembers."""
    services.sessions.end(session)
    services.runs.stop_login(session.login_id)
    st.session_state.clear()
    _ask_browser("/session/end")


def send_pending_call() -> None:
    """Let the browser fetch or drop its cookie, once, if this tab last asked for it.

    Every run draws it: one that another overtook may never have reached the browser, which posts
    each call once, however often it sees it.
    """
    if call := st.session_state.get(_PENDING):
        number = call["number"]
        st.html(
            f'<div data-quillgate-call="{call["path"]}"'
            f' data-ticket="{html.escape(call["ticket"])}" data-number="{number}" hidden></div>'
            f'<script src="/assets/call.js?{number}"></script>',
            unsafe_allow_javascript=True,
        )


def _ask_browser(path: str, ticket: str = "") -> None:
    # The number makes the browser run the script for another call; it says nothing.
    number = secrets.token_hex(4)
    st.session_state[_PENDING] = {"path": path, "ticket": ticket, "number": number}


def tab_id() -> str:
    """Return what tells this tab from others."""
    context = get_script_run_ctx()
    return context.session_id if context is not None else "no-tab"


def _cookie() -> str | None:
    headers = st.context.headers
    value = st.context.cookies.get(cookie_name(https=is_https(headers)))
    return value if isinstance(value, str) else None


def _address(services: Services) -> str:
    settings, peer = services.settings, st.context.ip_address
    return client_address(
        st.context.headers,
        peer if isinstance(peer, str) else None,
        header=settings.client_address_header,
        proxy_hops=settings.proxy_hops,
    )
