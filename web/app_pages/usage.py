"""Usage: what is left of each limit, and what was written on each day."""

import streamlit as st

from web import browser_session
from web.key_facts import limit_bars
from web.sentences import plain, sentence
from web.services import installed

services = installed()
session, account = browser_session.require(services)
view = services.account_views.of(account.username)

st.title("Usage")
if view.error is not None:
    st.error(sentence(view.error), icon=":material/error:")
    st.stop()

st.subheader("What is left")
for bar in limit_bars(view.document):
    st.progress(bar.left, text=f"{plain(bar.name)} · {bar.said}")
