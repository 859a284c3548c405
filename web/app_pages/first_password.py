"""A password of your own: whoever was given a first password changes it before anything else."""

import streamlit as st

from web import browser_session
from web.password_form import draw_password_form
from web.services import installed

FORM_PIXELS = 440

services = installed()
recognised = browser_session.current(services)
if recognised is None or not recognised[1].must_change_password:
    st.rerun()
session, account = recognised

with st.container(horizontal_alignment="center"):
    column = st.container(width=FORM_PIXELS)
with column:
    st.title("A password of your own")
    st.markdown(
        "The one that you were given has been seen by others. Choose one that only you know."
    )
    if draw_password_form(services, account):
        st.rerun()
    if st.button("Logout", width="stretch"):
        browser_session.log_out(services, session)
        st.rerun()
