"""The login form: the same for everybody, whatever the reason it is shown."""

from pathlib import Path

import streamlit as st

from web import browser_session
from web.login import LoginRefusedError
from web.services import installed

LOGO = Path(__file__).parents[1] / "assets" / "quill.svg"
FORM_PIXELS = 440

services = installed()

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
    try:
        browser_session.log_in(services, username, password)
    except LoginRefusedError as refusal:
        outcome.error(refusal.message, icon=":material/lock:")
    else:
        st.rerun()
