"""My API key: what the key that this web app forwards is, may do, and until when."""

import streamlit as st

from auth.principal import Scope
from web import browser_session
from web.api_client import ApiError
from web.key_facts import expiry_warning, key_facts
from web.sentences import plain, sentence
from web.services import installed

_ROTATED = "own_key_rotated"

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
if warning := expiry_warning(view.document):
    st.warning(warning, icon=":material/schedule:")
if st.session_state.pop(_ROTATED, False):
    st.success("Your key has a new secret. There is nothing for you to do.")
elif view.document.get("rotation"):
    st.info("A rotation of this key is under way.", icon=":material/autorenew:")
elif Scope.KEY_ROTATE.value in view.document.get("scopes", ()) and st.button(
    "Rotate", help="Give the key a new secret. You stay logged in."
):
    try:
        services.key_rotation.own(account.username)
    except ApiError as exc:
        st.error(sentence(exc), icon=":material/error:")
    else:
        services.account_views.forget(account.username)
        st.session_state[_ROTATED] = True
        st.rerun()
