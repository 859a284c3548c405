"""The panels of the admin page: keys, tenants, audit. Everything goes through `/v1/admin/*`.

A refused change is told in the API's own sentence, which is made for administrators.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from auth.plans import load_plans
from auth.principal import Scope
from web.admin_rows import Row, audit_row, entries, key_row, matching, tenant_row
from web.api_client import ApiError
from web.key_rotation import KeyRotation
from web.sentences import plain, sentence
from web.user_api import UserApi

DAY_SECONDS = 86_400
AUDIT_RECORDS = 200
_DONE = "admin_change_done"
_TOLD_BY_API = ("conflict", "not_found", "invalid_request")


class AdminPanels:
    """Draws for one admin, whose own key asks and changes."""

    def __init__(self, user_api: UserApi, key_rotation: KeyRotation, username: str) -> None:
        self._user_api, self._key_rotation, self._username = user_api, key_rotation, username

    def what_was_done(self) -> None:
        """Tell of the change that the last run made, once."""
        if done := st.session_state.pop(_DONE, None):
            st.success(done, icon=":material/check:")

    def keys(self) -> None:
        """List, issue, rotate and revoke keys."""
        found = self._listed("keys")
        tenants = self._listed("tenants")
        if found is None or tenants is None:
            return
        words = st.text_input("Search", placeholder="a name, a tenant, a state …")
        _table(matching([key_row(key) for key in found], words), "No key matches.")
        with st.expander("Issue a key", icon=":material/add:"), st.form("issue key", border=False):
            self._issue_form([str(tenant.get("tenant")) for tenant in tenants])
        usable = {
            str(key["key_id"]): key
            for key in found
            if key.get("key_id") and key.get("state") == "active"
        }
        with st.expander("Rotate or revoke a key", icon=":material/key:"):
            self._change_key_form(usable)

    def tenants(self) -> None:
        """List and add tenants, change their plan, disable and enable them."""
        found = self._listed("tenants")
        if found is None:
            return
        _table([tenant_row(tenant) for tenant in found], "There is no tenant yet.")
        plans = list(load_plans())
        with (
            st.expander("Add a tenant", icon=":material/add:"),
            st.form("add tenant", border=False),
        ):
            name = st.text_input("Name", key="new_tenant")
            plan = st.selectbox("Plan", plans, key="new_tenant_plan")
            if st.form_submit_button("Add"):
                body = {"tenant": name.strip(), "plan": plan}
                self._change("POST", "/v1/admin/tenants", body, "The tenant was added.")
        with st.expander("Change a tenant", icon=":material/tune:"):
            states = {str(tenant.get("tenant")): tenant.get("state") for tenant in found}
            chosen = st.selectbox("Tenant", list(states), index=None, placeholder="Choose a tenant")
            path = f"/v1/admin/tenants/{chosen}"
            plan = st.selectbox("New plan", plans)
            left, right = st.columns(2)
            if left.button("Set plan", width="stretch", disabled=not chosen):
                self._change("PATCH", path, {"plan": plan}, "The plan was set.")
            other = "disabled" if states.get(chosen or "") == "active" else "active"
            label = "Disable" if other == "disabled" else "Enable"
            if right.button(label, width="stretch", disabled=not chosen):
                self._change("PATCH", path, {"state": other}, f"The tenant is {other} now.")

    def audit(self) -> None:
        """Show the newest records, and prove the chain whole."""
        if st.button("Verify the chain", icon=":material/verified:"):
            verified = self._asked(lambda: self._get("/v1/admin/audit/verify"))
            if isinstance(verified, Mapping) and verified.get("whole") is True:
                st.success(f"The chain is whole: {verified.get('records')} records.")
        found = self._listed("records", "/v1/admin/audit", {"limit": str(AUDIT_RECORDS)})
        if found is not None:
            _table([audit_row(record) for record in reversed(found)], "Nothing happened yet.")

    def _issue_form(self, tenants: list[str]) -> None:
        tenant = st.selectbox("Tenant", tenants, key="issue_tenant")
        name = st.text_input("Name of the key")
        scopes = st.multiselect(
            "It may", [scope.value for scope in Scope], default=[Scope.GENERATE.value]
        )
        days = st.number_input("Expires in days (0: never)", min_value=0, max_value=3650, value=90)
        if st.form_submit_button("Issue", type="primary"):
            body: dict[str, Any] = {"tenant": tenant, "name": name.strip(), "scopes": scopes}
            if days:
                body["expires_at"] = int(time.time()) + int(days) * DAY_SECONDS
            self._change("POST", "/v1/admin/keys", body, "The key was issued.")

    def _change_key_form(self, usable: Mapping[str, Mapping[str, Any]]) -> None:
        chosen = st.selectbox(
            "Key",
            list(usable),
            index=None,  # nothing is chosen for the admin: what was just revoked leaves no other
            placeholder="Choose a key",
            format_func=lambda key_id: f"{usable[key_id].get('name')} · {key_id}",
        )
        reason = st.text_input("Reason of a revocation", help="A revocation cannot be undone.")
        left, right = st.columns(2)
        if left.button("Rotate", width="stretch", disabled=not chosen) and chosen:
            self._rotate(chosen, usable[chosen].get("forwarded_for") or [])
        if right.button("Revoke", width="stretch", disabled=not chosen):
            if not reason.strip():
                st.error("A revocation needs a reason.", icon=":material/error:")
                return
            path = f"/v1/admin/keys/{chosen}/revoke"
            self._change("POST", path, {"reason": reason.strip()}, "The key is revoked.")

    def _rotate(self, key_id: str, users: list[str]) -> None:
        if not users:
            path = f"/v1/admin/keys/{key_id}/rotate"
            self._change("POST", path, {}, "The key has a new secret.")
            return

        def rotate() -> bool:
            self._key_rotation.of(self._username, key_id, users)
            return True

        if self._asked(rotate):
            st.session_state[_DONE] = "The key has a new secret, which this web app forwards now."
            st.rerun()

    def _show_key(self, done: str, key: str) -> None:
        """Show a whole key in this run alone; it is kept nowhere."""
        st.warning(f"{done} Copy it now: it is shown this once.", icon=":material/content_copy:")
        st.code(key, language=None, wrap_lines=True)

    def _change(self, method: str, path: str, body: Mapping[str, Any], done: str) -> None:
        """Make a change; afterwards the lists are drawn anew, or a new key is shown."""
        answer = self._asked(lambda: self._user_api.send(self._username, method, path, body))
        if isinstance(answer, Mapping) and "key" in answer:
            self._show_key(done, str(answer["key"]))
        elif answer is not None:
            st.session_state[_DONE] = done  # a toast would be lost with this run
            st.rerun()

    def _listed(
        self, name: str, path: str | None = None, query: Mapping[str, str] | None = None
    ) -> list[Mapping[str, Any]] | None:
        answer = self._asked(lambda: self._get(path or f"/v1/admin/{name}", query))
        return None if answer is None else entries(answer, name)

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        return self._user_api.get(self._username, path, query)

    def _asked(self, ask: Callable[[], Any]) -> Any:
        """Return the answer, or tell why there is none and return None."""
        try:
            return ask()
        except ApiError as exc:
            told = plain(exc.detail) if exc.code in _TOLD_BY_API and exc.detail else sentence(exc)
            fields = [f"{plain(name)}: {plain(text)}" for name, text in exc.fields.items()]
            st.error("  \n".join([told, *fields]), icon=":material/error:")
            return None


def _table(rows: list[Row], nothing: str) -> None:
    if not rows:
        st.info(nothing)
        return
    st.dataframe(rows, hide_index=True, width="stretch")
