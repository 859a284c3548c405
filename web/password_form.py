"""The form for another password of one's own; the API checks the present one and writes the new.

What is wrong is told beside its field. A changed password ends every session that was begun with
the one before; this tab goes on with a session of its own.
"""

from __future__ import annotations

import streamlit as st

from auth.users import MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARS
from web import browser_session
from web.accounts import Account
from web.api_client import ApiError
from web.sentences import sentence, told_by_api
from web.services import Services

OWN_CHARS = 5  # a password has beside a name or the word itself
PATH = "/v1/user/password"
_CHANGED = "passwords_changed"


def draw_password_form(services: Services, account: Account) -> bool:
    """Draw the form; return whether the password was changed in this run."""
    with st.form("password"):
        present = _password("Present password", "current-password")
        wrong_present = st.container()
        new = _password("New password", "new-password")
        st.caption(f"At least {MIN_PASSWORD_CHARS} characters.")
        wrong_new = st.container()
        again = _password("New password again", "new-password")
        wrong_again = st.container()
        submitted = st.form_submit_button("Change password", type="primary", width="stretch")
        failed = st.container()
    if not submitted:
        return False
    if problem := _problem(new, present, account.username):
        wrong_new.error(problem)
        return False
    if new != again:
        wrong_again.error("The two are not the same.")
        return False
    body = {"user": account.username, "current_password": present, "new_password": new}
    try:
        browser_session.once(
            services,
            (PATH, hash((present, new))),
            lambda: services.user_api.send(account.username, "POST", PATH, body),
        )
    except ApiError as exc:
        if "current_password" in exc.fields:
            wrong_present.error("This is not your present password.")
        else:
            told = told_by_api(exc) if exc.code == "conflict" and exc.detail else sentence(exc)
            failed.error(told, icon=":material/error:")
        return False
    st.session_state[_CHANGED] = st.session_state.get(_CHANGED, 0) + 1
    _go_on(services, account)
    return True


def _go_on(services: Services, account: Account) -> None:
    services.accounts.refresh()
    changed = services.accounts.find(account.username)
    if changed is not None and changed.password_hash != account.password_hash:
        browser_session.go_on(services, changed)


def _password(label: str, autocomplete: str) -> str:
    # After a change the fields have other names: what was in these is gone from the tab's state.
    key = f"{label} {st.session_state.get(_CHANGED, 0)}"
    return st.text_input(label, type="password", autocomplete=autocomplete, max_chars=128, key=key)


def _problem(new: str, present: str, username: str) -> str | None:
    if len(new) < MIN_PASSWORD_CHARS:
        return f"At least {MIN_PASSWORD_CHARS} characters."
    if len(new.encode()) > MAX_PASSWORD_BYTES or "\0" in new:
        return f"At most {MAX_PASSWORD_BYTES} bytes: about as many letters."
    if _obvious(new, username):
        return 'Too easy to guess: your name, "password" or a repetition will not do.'
    return "Choose another one than the present password." if new == present else None


def _obvious(new: str, username: str) -> bool:
    """Tell whether a password is what everybody would try first."""
    folded, words = new.casefold(), (username.casefold(), "password")
    repeats = folded in (folded + folded)[1:-1]
    return repeats or any(len(folded.replace(word, "")) < OWN_CHARS for word in words)
