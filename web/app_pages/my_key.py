"""My API key: what the key that this web app forwards is, may do, and until when; rotate it."""

import streamlit as st

from auth.principal import Scope
from web import browser_session
from web.api_client import ApiError
from web.key_facts import can_be_cancelled, expiry_warning, key_facts, rotation_facts
from web.password_form import draw_password_form
from web.sentences import plain, sentence, told_by_api
from web.services import installed

_CANCELLED = "own_rotation_cancelled"
_PASSWORD = "own_password_changed"  # noqa: S105  # the name of a note to the next run

services = installed()
session, account = browser_session.require(services)
view = services.account_views.of(account.username)
st.title("My API key")
if view.error is not None:
    st.error(sentence(view.error), icon=":material/error:")
    st.stop()


def own_tail() -> str:
    """Return the last four characters of the key that is forwarded, if it can be read."""
    try:
        return services.accounts.key_of(account.username)[-4:]
    except ApiError:
        return ""


def conflict(error: ApiError) -> str:
    """Return the API's own sentence where things stand against a change."""
    return told_by_api(error) if error.code == "conflict" and error.detail else sentence(error)


def cancel() -> None:
    """Take the new secret back; nothing shows it any longer."""
    services.key_rotation.cancel_own(account.username)
    services.new_secrets.withdraw(str(view.document.get("key_id")))


def rotate() -> None:
    """Give the key a new secret, which every page shows until it was put away."""
    key = services.key_rotation.own(account.username)
    services.account_views.forget(account.username)
    browser_session.keep_new_secret(services, session, "Your key has a new secret.", key)


st.markdown(
    "Your texts are generated with this key. It stays on the server: your browser never holds it."
)
with st.container(border=True):
    for name, value in key_facts(view.document, tail=own_tail()):
        label, shown = st.columns([1, 3])
        label.markdown(f"**{name}**")
        shown.markdown(plain(value))
if warning := expiry_warning(view.document):
    st.warning(warning, icon=":material/schedule:")

may_rotate = Scope.KEY_ROTATE.value in view.document.get("scopes", ())
rotation = view.document.get("rotation")
if st.session_state.pop(_CANCELLED, False):
    st.success("The rotation is cancelled: the key is what it was.", icon=":material/check:")
if rotation and may_rotate:
    with st.container(border=True):
        st.subheader("A rotation is under way")
        st.markdown(plain(rotation_facts(rotation)))
        if can_be_cancelled(rotation) and st.button(
            "Cancel rotation", help="Works until the new secret is used anywhere."
        ):
            try:
                browser_session.once(services, "cancel own rotation", cancel)
            except ApiError as exc:
                st.error(conflict(exc), icon=":material/error:")
            else:
                services.account_views.forget(account.username)
                st.session_state[_CANCELLED] = True
                st.rerun()
elif may_rotate:
    with st.container(border=True):
        st.subheader("Rotate")
        st.markdown(
            "Gives the key a new secret. This web app goes on with it by itself; other programs "
            "that use the key have a week to change over, but only an hour once one of them, or "
            "this web app, has used the new secret."
        )
        sure = st.checkbox("I know where else this key is used", key="sure_to_rotate")
        if st.button("Rotate", icon=":material/autorenew:", disabled=not sure):
            try:
                browser_session.once(services, "own rotation", rotate)
            except ApiError as exc:
                st.error(conflict(exc), icon=":material/error:")
            else:
                st.rerun()

if st.session_state.pop(_PASSWORD, False):
    st.success("Your password is changed.", icon=":material/check:")
with st.expander("Change my password", icon=":material/password:"):
    if draw_password_form(services, account):
        st.session_state[_PASSWORD] = True
        st.rerun()
