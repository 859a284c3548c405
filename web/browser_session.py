"""The one place where a script run learns who is looking: cookie, tab, address, login, logout."""

from __future__ import annotations

import html
import secrets
from collections.abc import Callable, Hashable
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from web.accounts import Account
from web.client_address import client_address
from web.new_secrets import NewSecret
from web.redrawn import redrawn
from web.services import Services
from web.sessions import Session, cookie_name, is_https

_TOKEN = "_session_token"  # noqa: S105  # the name under which this tab holds its session token
_PENDING = "_pending_call"
_KNOWN = "_known_browser"
_LOGIN = "_login"  # whose everything else is that this tab holds
ADMIN_ROLE = "admin"
LOOK_AGAIN_SECONDS = 10.0  # how long a tab may show a page after its session ended elsewhere


def current(services: Services) -> tuple[Session, Account] | None:
    """Return the valid session of this tab and whose it is, as the users are now; else None.

    A tab's cookies are those of its connection: a login in this tab is in the tab's own state,
    until a reload brings it as a cookie.
    """
    token = st.session_state.get(_TOKEN) or _cookie()
    recognised = services.desk.recognise(token)
    if recognised is None:
        st.session_state.pop(_TOKEN, None)
    else:
        _forget_other_logins(recognised[0])
    return recognised


def _forget_other_logins(session: Session) -> None:
    """Drop what this tab holds of a login that ended elsewhere: the next may be somebody else's."""
    state = st.session_state
    if state.setdefault(_LOGIN, session.tag) != session.tag:
        kept = {name: state[name] for name in (_TOKEN, _PENDING, _KNOWN) if name in state}
        state.clear()
        state.update({**kept, _LOGIN: session.tag})


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


@redrawn(every=LOOK_AGAIN_SECONDS)
def look_again(services: Services, *, shown: int) -> None:
    """Draw the page anew when its session has ended: by a logout in another tab, or by time.

    Also when there are other new secrets than are `shown`: a run that was cut off was given one, or
    their time is over.
    """
    session, _account = require(services)
    if len(new_secrets(services, session)) != shown:
        st.rerun()


def require_admin_still(services: Services) -> None:
    """For a part that draws itself: draw the whole page anew unless its reader is an admin."""
    if ADMIN_ROLE not in require(services)[1].roles:
        st.rerun()


def log_in(services: Services, username: str, password: str) -> None:
    """Begin a session in this tab. Raise LoginRefusedError."""
    browser = _known_browser(services, username)
    token = services.desk.log_in(username, password, _address(services), browser)
    if browser is None:
        # This tab's connection began without the cookie, which is set after this.
        st.session_state[_KNOWN] = services.known_browsers.token(username)
    _begin(services, token)


def go_on(services: Services, account: Account) -> None:
    """Begin another session of the same person in this tab: their password is another one."""
    before = services.sessions.read(st.session_state.get(_TOKEN) or _cookie())
    token = services.desk.start(account)
    session = services.sessions.read(token)
    if before is not None and session is not None:
        services.visits.move(before.login_id, session)
        services.new_secrets.move(before.login_id, session.login_id)
        st.session_state[_LOGIN] = session.tag
    _begin(services, token)


def log_out(services: Services, session: Session) -> None:
    """End this login everywhere, and what this tab remembers."""
    services.sessions.end(session)
    known = st.session_state.get(_KNOWN)
    st.session_state.clear()
    st.session_state[_KNOWN] = known
    _ask_browser("/session/end")


def send_pending_call(services: Services) -> None:
    """Let the browser fetch or drop its cookie, once, if this tab last asked for it.

    Every run draws it: one that another overtook may never have reached the browser, which posts
    each call once, however often it sees it. A ticket that lapsed on the way is issued anew.
    """
    call, token = st.session_state.get(_PENDING), st.session_state.get(_TOKEN)
    if call and token and services.sessions.lapsed(call["ticket"]):
        call = _ask_browser("/session/start", services.sessions.ticket(token))
    if call:
        number = call["number"]
        st.html(
            f'<div data-quillgate-call="{call["path"]}"'
            f' data-ticket="{html.escape(call["ticket"])}" data-number="{number}" hidden></div>'
            f'<script src="/assets/call.js?{number}"></script>',
            unsafe_allow_javascript=True,
        )


def _begin(services: Services, token: str) -> None:
    st.session_state[_TOKEN] = token
    _ask_browser("/session/start", services.sessions.ticket(token))


def _ask_browser(path: str, ticket: str = "") -> dict[str, str]:
    # The number makes the browser run the script for another call; it says nothing.
    call = {"path": path, "ticket": ticket, "number": secrets.token_hex(4)}
    st.session_state[_PENDING] = call
    return call


def tab_id() -> str:
    """Return what tells this tab from others."""
    context = get_script_run_ctx()
    return context.session_id if context is not None else "no-tab"


def once(services: Services, what: Hashable, make: Callable[[], Any]) -> Any:
    """Make a change in this tab's name and return its answer: with a second click, once."""
    return services.once.do(tab_id(), what, make)


def keep_new_secret(services: Services, session: Session, told: str, secret: str) -> None:
    """Show this on every page of this tab until its person has put it away."""
    services.new_secrets.keep(tab_id(), session.login_id, NewSecret(told, secret))


def new_secrets(services: Services, session: Session) -> list[NewSecret]:
    """Return what this tab has to show, the oldest first."""
    return services.new_secrets.of(tab_id(), session.login_id)


def _cookie() -> str | None:
    headers = st.context.headers
    value = st.context.cookies.get(cookie_name(https=is_https(headers)))
    return value if isinstance(value, str) else None


def _known_browser(services: Services, username: str) -> str | None:
    browsers, https = services.known_browsers, is_https(st.context.headers)
    own = browsers.number(st.session_state.get(_KNOWN), username)
    return own or browsers.of_cookies(st.context.cookies, username, https=https)


def _address(services: Services) -> str:
    settings, peer = services.settings, st.context.ip_address
    return client_address(
        st.context.headers,
        peer if isinstance(peer, str) else None,
        header=settings.client_address_header,
        proxy_hops=settings.proxy_hops,
    )
