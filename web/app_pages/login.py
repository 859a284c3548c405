"""The login form: the same for everybody, whatever the reason it is shown."""

import time
from pathlib import Path

import streamlit as st

from web import browser_session
from web.login import LoginRefusedError, too_many
from web.redrawn import redrawn
from web.services import installed

WAIT_ENDS = "login_wait_ends"
LOGO = Path(__file__).parents[1] / "assets" / "quill.svg"
FORM_PIXELS = 440

services = installed()


@redrawn(every=1.0)
def count_down() -> None:
    """Tell the seconds that are left as they go by, and then that one may try again."""
    left = st.session_state[WAIT_ENDS] - time.monotonic()
    if left > 0:
        st.error(too_many(left), icon=":material/lock:")
    else:
        del st.session_state[WAIT_ENDS]
        st.rerun()


with st.container(horizontal_alignment="center"):
    column = st.container(width=FORM_PIXELS)
with column:
    st.image(str(LOGO), width=56, alt="A quill")
    st.title("Quillgate")
    st.markdown("A GPT of our own that writes on from your words.")
    form, outcome = st.form("login"), st.container()
with form:
    username = st.text_input("Username", autocomplete="username", max_chars=128)
    password = st.text_input(
        "Password", type="password", autocomplete="current-password", max_chars=128
    )
    submitted = st.form_submit_button("Login", type="primary", width="stretch")
if submitted:
    st.session_state.pop(WAIT_ENDS, None)
    try:
        browser_session.log_in(services, username, password)
    except LoginRefusedError as refusal:
        if refusal.wait_seconds > 0:
            st.session_state[WAIT_ENDS] = time.monotonic() + refusal.wait_seconds
        else:
            outcome.error(refusal.message, icon=":material/lock:")
    else:
        st.rerun()
if WAIT_ENDS in st.session_state:
    with outcome:
        count_down()
