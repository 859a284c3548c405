"""My API key: what the key that this web app forwards is, may do, and until when."""

import streamlit as st

from web import browser_session
from web.key_facts import key_facts
from web.sentences import plain, sentence
from web.services import installed

services = installed()
session, account = browser_session.require(services)
view = services.account_views.of(account.username)

st.title("My API key")
if view.error is not None:
    st.error(sentence(view.error), icon=":material/error:")
    st.stop()

st.markdown(
    "Your texts are generated with this key. It stays on the server: your browser never holds it."
)
with st.container(border=True):
    for name, value in key_facts(view.document):
        label, shown = st.columns([1, 3])
        label.markdown(f"**{name}**")
        shown.markdown(plain(value))
if rotation := view.document.get("rotation"):
    st.info("A rotation of this key is under way.", icon=":material/autorenew:")
