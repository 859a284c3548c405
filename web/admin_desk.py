"""How the admin's panels ask and change: through `/v1/admin/*`, with the admin's own key.

A refused change is told in the API's own sentence, which is made for administrators. A new key or
password is shown until it was put away, and kept nowhere else: see `web.new_secrets`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from web import browser_session
from web.admin_rows import Row, entries
from web.api_client import ApiError
from web.sentences import plain, sentence, told_by_api
from web.services import Services
from web.sessions import Session

TO_CONFIRM = "admin_change_to_confirm"
_DONE = "admin_change_done"
_TOLD_BY_API = ("conflict", "not_found", "invalid_request")


class AdminDesk:
    """Asks for one admin."""

    def __init__(self, services: Services, session: Session) -> None:
        self._services, self._session, self.username = services, session, session.user

    def require_admin_still(self) -> None:
        """Draw the whole page anew unless its reader is an admin still."""
        browser_session.require_admin_still(self._services)

    def what_was_done(self) -> None:
        """Tell of the change that the last run made, once."""
        if done := st.session_state.pop(_DONE, None):
            st.success(done, icon=":material/check:")

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Return the answer of `/v1/admin/...`, or tell why there is none and return None."""
        api = self._services.user_api
        return self._asked(lambda: api.get(self.username, f"/v1/admin/{path}", query))

    def listed(
        self, name: str, path: str | None = None, query: Mapping[str, str] | None = None
    ) -> list[Mapping[str, Any]] | None:
        """Return the objects that are listed, or tell why there are none and return None."""
        answer = self.get(path or name, query)
        return None if answer is None else entries(answer, name)

    def change(self, method: str, path: str, body: Mapping[str, Any], done: str) -> None:
        """Make a change; then the page is drawn anew, with what was done or with what is new."""
        # What is reckoned from the time makes no other wish of a second click.
        what = {name: value for name, value in body.items() if name != "expires_at"}

        def send() -> Any:
            answer = self._services.user_api.send(self.username, method, f"/v1/admin/{path}", body)
            if path.startswith("users"):
                self._services.accounts.refresh()  # who was just told a password tries it at once
            if path.endswith("/revoke"):
                self._services.new_secrets.withdraw(path.split("/")[1])
            if secret := _secret_in(answer):
                browser_session.keep_new_secret(self._services, self._session, done, secret)
            return answer

        answer = self._once(f"{method} {path} {json.dumps(what)}", send)
        if _secret_in(answer):
            st.rerun()
        elif answer is not None:
            self.tell_next(done)

    def ask(
        self, question: str, method: str, path: str, body: Mapping[str, Any], done: str
    ) -> None:
        """Put one question before a change; nothing is done before its answer."""
        st.session_state[TO_CONFIRM] = {
            "question": question,
            "change": [method, path, dict(body), done],
        }

    def asked_question(self) -> None:
        """Open the question that was put, until it is answered or closed."""
        if asked := st.session_state.get(TO_CONFIRM):
            _confirm(self, asked["question"], asked["change"])

    def rotate(self, key_id: str, users: list[str]) -> None:
        """Give a key a new secret: shown, or kept for the web users it is forwarded for."""
        if not users:
            self.change("POST", f"keys/{key_id}/rotate", {}, "The key has a new secret.")
            return

        def rotate() -> bool:
            self._services.key_rotation.of(self.username, key_id, users)
            return True

        if self._once(f"rotate {key_id}", rotate):
            self.tell_next("The key has a new secret, which this web app forwards now.")

    def tell_next(self, done: str) -> None:
        """Draw anew and tell what was done: a toast would be lost with this run."""
        st.session_state[_DONE] = done
        st.rerun()

    def _once(self, what: str, make: Callable[[], Any]) -> Any:
        return self._asked(lambda: browser_session.once(self._services, what, make))

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except ApiError as exc:
            told = told_by_api(exc) if exc.code in _TOLD_BY_API and exc.detail else sentence(exc)
            fields = [f"{plain(name)}: {plain(text)}" for name, text in exc.fields.items()]
            st.error("  \n".join([told, *fields]), icon=":material/error:")
            return None


def table(rows: list[Row], nothing: str, *, key: str | None = None, **columns: Any) -> None:
    """Draw rows, or say that there are none."""
    if not rows:
        st.info(nothing)
        return
    st.dataframe(rows, hide_index=True, width="stretch", column_config=columns, key=key)


def _forget_question() -> None:
    st.session_state.pop(TO_CONFIRM, None)


@st.dialog("Are you sure?", icon=":material/help:", on_dismiss=_forget_question)
def _confirm(desk: AdminDesk, question: str, change: list[Any]) -> None:
    desk.require_admin_still()  # a dialog draws itself
    st.markdown(question)
    at = st.empty()  # the button goes when it has done its work
    if at.button("Yes, do it", type="primary", width="stretch"):
        at.empty()
        _forget_question()
        desk.change(*change)


def _secret_in(answer: Any) -> str | None:
    secret = (answer.get("key") or answer.get("password")) if isinstance(answer, Mapping) else None
    return secret if isinstance(secret, str) else None
