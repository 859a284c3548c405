"""The panels of the admin page: load, tenants, users, audit. Each draws itself when open.

Keys have a module of their own: `web.admin_keys`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from auth.plans import load_plans
from web.admin_desk import AdminDesk, table
from web.admin_rows import audit_row, matching, refusal_rows, tenant_row, user_row
from web.redrawn import redrawn
from web.sentences import plain

AUDIT_RECORDS = 1000  # the most that the API lists
LOAD_SECONDS = 2.0
_ALL = "All"
_KINDS = {_ALL: "", "Tenants": "tenant.", "Keys": "key.", "Users": "user."}
_ASSIGNED = "keys_assigned"


def load(desk: AdminDesk) -> None:
    """What the API does now, drawn again every two seconds."""

    @redrawn(every=LOAD_SECONDS)
    def now() -> None:
        desk.require_admin_still()
        found = desk.get("load")
        if not isinstance(found, Mapping):
            return
        names = ("Running", "Waiting", "Characters a second", "Places")
        fields = ("running", "waiting", "chars_per_second", "slots")
        for column, name, field in zip(st.columns(4), names, fields, strict=True):
            column.metric(name, f"{found.get(field, 0):,}", border=True)
        table(refusal_rows(found.get("refused")), "Nothing was refused since the start.")
        st.caption("Of the instance that answered, since it was started.")

    now()


def tenants(desk: AdminDesk) -> None:
    """List and add tenants, change their plan, disable and enable them."""
    found, used = desk.listed("tenants"), desk.listed("tenants", "usage")
    if found is None:
        return
    days = {str(one.get("tenant")): one.get("chars") for one in used or []}
    rows = [tenant_row(tenant, days.get(str(tenant.get("tenant")))) for tenant in found]
    table(rows, "There is no tenant yet.", **_sparkline())
    plans = list(load_plans())
    with st.expander("Add a tenant", icon=":material/add:"), st.form("add tenant", border=False):
        name = st.text_input("Name", key="new_tenant")
        plan = st.selectbox("Plan", plans, key="new_tenant_plan")
        if st.form_submit_button("Add"):
            body = {"tenant": name.strip(), "plan": plan}
            desk.change("POST", "tenants", body, "The tenant was added.")
    with st.expander("Change a tenant", icon=":material/tune:"):
        states = {str(tenant.get("tenant")): tenant.get("state") for tenant in found}
        chosen = st.selectbox("Tenant", list(states), index=None, placeholder="Choose a tenant")
        plan = st.selectbox("New plan", plans)
        left, right = st.columns(2)
        if left.button("Set plan", width="stretch", disabled=not chosen):
            desk.change("PATCH", f"tenants/{chosen}", {"plan": plan}, "The plan was set.")
        other, label = _other(states.get(chosen or ""))
        if right.button(label, width="stretch", disabled=not chosen):
            told = f"The tenant is {other} now."
            question = f"{label} **{plain(chosen or '')}**, with all of its keys and people?"
            desk.ask(question, "PATCH", f"tenants/{chosen}", {"state": other}, told)


def users(desk: AdminDesk) -> None:
    """List, add and change the people who may log in."""
    found, owners = desk.listed("users"), desk.listed("tenants")
    if found is None or owners is None:
        return
    table([user_row(user) for user in found], "Nobody may log in yet.")
    names = [str(tenant.get("tenant")) for tenant in owners]
    with st.expander("Add a user", icon=":material/person_add:"), st.form("add", border=False):
        name = st.text_input("Name of the user")
        tenant = st.selectbox("Tenant", names, key="new_user_tenant")
        role = st.selectbox("Role", ("user", "admin"), key="new_user_role")
        if st.form_submit_button("Add user", type="primary"):
            body = {"user": name.strip(), "tenant": tenant, "role": role}
            told = f"{plain(name.strip())} was added; this is the first password."
            desk.change("POST", "users", body, told)
    people = {str(user.get("user")): user for user in found}
    with st.expander("Change a user", icon=":material/manage_accounts:"):
        _change_user_form(desk, people)


def audit(desk: AdminDesk) -> None:
    """Show the newest records, and prove the chain whole."""
    if st.button("Verify the chain", icon=":material/verified:"):
        verified = desk.get("audit/verify")
        if isinstance(verified, Mapping) and verified.get("whole") is True:
            st.success(f"The chain is whole: {verified.get('records')} records.")
    found = desk.listed("records", "audit", {"limit": str(AUDIT_RECORDS)})
    if found is None:
        return
    # The records name keys by their id; where the names cannot be had, the ids are shown.
    keys = {str(key.get("key_id")): key for key in desk.listed("keys") or ()}
    words = st.text_input("Search", placeholder="a name, a tenant, an address …", key="audit_words")
    kind = st.segmented_control("Which records", list(_KINDS), default=_ALL, required=True)
    begins = _KINDS[kind or _ALL]
    rows = [
        audit_row(record, keys)
        for record in reversed(found)
        if str(record.get("action", "")).startswith(begins)
    ]
    table(matching(rows, words), "No record matches." if found else "Nothing happened yet.")
    if len(found) == AUDIT_RECORDS:
        st.caption(
            f"These are the newest {AUDIT_RECORDS:,}; `python -m auth audit list` has them all."
        )


def _sparkline() -> dict[str, Any]:
    return {"30 days": st.column_config.LineChartColumn(width="medium", y_min=0)}


def _other(state: object) -> tuple[str, str]:
    """Return the state to change to, and the button's name for it."""
    return ("active", "Enable") if state == "disabled" else ("disabled", "Disable")


def _change_user_form(desk: AdminDesk, people: Mapping[str, Mapping[str, Any]]) -> None:
    chosen = st.selectbox("User", list(people), index=None, placeholder="Choose a user")
    person = people.get(chosen or "", {})
    path = f"users/{chosen}"
    is_admin = "admin" in (person.get("roles") or ())
    named = f"**{plain(chosen or '')}**"
    own = chosen == desk.username
    if own:
        st.info("This is you: ask another administrator to change your role or state.")
    first, second, third = st.columns(3)
    label, role = ("Make a user", "user") if is_admin else ("Make an admin", "admin")
    if first.button(label, width="stretch", disabled=own or not chosen):
        said = "The role was set; it counts within a minute."
        desk.ask(f"{label} of {named}?", "PATCH", path, {"role": role}, said)
    other, label = _other(person.get("state"))
    if second.button(f"{label} user", width="stretch", disabled=own or not chosen):
        said = f"The user is {other} within a minute."
        desk.ask(f"{label} {named}?", "PATCH", path, {"state": other}, said)
    if third.button("Reset password", width="stretch", disabled=not chosen):
        said = f"This is the new first password of {plain(chosen or '')}."
        question = f"Give {named} a new first password? The present one ends within a minute."
        desk.ask(question, "POST", f"{path}/password", {}, said)
    with st.form("assign key", border=False):
        # A field of another name for the next key: this one's is gone from the tab's state then.
        count = st.session_state.setdefault(_ASSIGNED, 0)
        key = st.text_input("Another API key to forward", type="password", key=f"assigned {count}")
        if st.form_submit_button("Assign key", disabled=not chosen) and chosen:
            st.session_state[_ASSIGNED] = count + 1
            body = {"key": key.strip()}
            desk.change("POST", f"{path}/key", body, "The key is forwarded within five minutes.")
