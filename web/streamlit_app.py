"""The script that Streamlit runs for every tab: who is looking decides which pages there are."""

from pathlib import Path

import streamlit as st

from web import browser_session
from web.accounts import Account
from web.connection_test import check_connection
from web.garbage import freeze_new_modules
from web.new_secret_box import draw_new_secrets
from web.pages import first_password_pages, logged_in_pages, login_pages
from web.sentences import plain
from web.services import Services, installed
from web.sessions import Session

LOGO = Path(__file__).with_name("assets") / "quill.svg"
STYLE = Path(__file__).with_name("assets") / "page.css"
SIDEBAR_PIXELS = 256


def draw_sidebar(services: Services, session: Session, account: Account) -> None:
    """Draw who is logged in, and what they can do on every page."""
    st.caption(f"Logged in as {plain(account.username)}")
    if st.button("Test Connection", icon=":material/network_check:", width="stretch"):
        with st.spinner("Asking the API …"):
            st.session_state["connection_checks"] = check_connection(
                services.api, services.user_api, account.username
            )
    if checks := st.session_state.get("connection_checks"):
        good, bad = ":green[:material/check_circle:]", ":red[:material/cancel:]"
        st.markdown(
            "\n".join(
                f"{good if check.works else bad} **{check.name}** {plain(check.seen)}  "
                for check in checks
            )
        )
    if st.button("Logout", icon=":material/logout:", width="stretch"):
        browser_session.log_out(services, session)
        st.rerun()


services = installed()
recognised = browser_session.current(services)
inside = recognised is not None and not recognised[1].must_change_password
st.set_page_config(
    page_icon=str(LOGO),
    layout="wide" if inside else "centered",
    initial_sidebar_state=SIDEBAR_PIXELS if inside else "collapsed",
)
st.html(STYLE)

# Before the page, which may stop halfway: the cookie waits for none of that.
with st.container(key="call"):
    browser_session.send_pending_call(services)
    script = "draft.js" if inside else "focus.js"
    whose = f'<div data-quillgate-login="{recognised[0].tag}" hidden></div>' if recognised else ""
    st.html(f'{whose}<script src="/assets/{script}"></script>', unsafe_allow_javascript=True)
if recognised is None:
    page = st.navigation(login_pages(), position="hidden")
elif recognised[1].must_change_password:
    page = st.navigation(first_password_pages(), position="hidden")
else:
    page = st.navigation(logged_in_pages(recognised[1]), position="sidebar")
    held = browser_session.new_secrets(services, recognised[0])
    draw_new_secrets(held, services.new_secrets)
    with st.sidebar:
        draw_sidebar(services, *recognised)
        browser_session.look_again(services, shown=len(held))

st.set_page_config(page_title=f"{page.title} · Quillgate")
page.run()
freeze_new_modules()
