"""The admin's panel of keys: list and find them, issue, rotate in two clicks, revoke.

Each row of an active key has a button that opens the one question before a rotation. A list that
changed meanwhile has other buttons: a click on a row that somebody else moved counts for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import streamlit as st

from auth.keyring import PEPPER_ENDED
from auth.principal import Scope
from web.admin_desk import AdminDesk, table
from web.admin_rows import Row, expiring, key_row, matching, used_chars
from web.sentences import plain

DAY_SECONDS = 86_400
UNUSED_DAYS = 30
TO_ROTATE = "key_to_rotate"  # the key whose rotation is to be confirmed
_EVERY, _UNUSED, _EXPIRING = "All", f"Unused for {UNUSED_DAYS} days", "Expiring"
_ROTATE = ":material/autorenew: Rotate"


def keys(desk: AdminDesk) -> None:
    """List, issue, rotate and revoke keys."""
    owners = desk.listed("tenants")
    if owners is None:
        return
    listing = st.container()
    # First what changes the list: then the page is drawn anew, and nothing was asked for in vain.
    with st.expander("Issue a key", icon=":material/add:"), st.form("issue key", border=False):
        _issue_form(desk, [str(tenant.get("tenant")) for tenant in owners])
    changing = st.expander("Rotate or revoke a key", icon=":material/key:")
    tenants, found = desk.listed("tenants", "usage"), desk.listed("keys")
    if found is None:
        return
    used = None if tenants is None else used_chars(tenants)
    usable = {
        str(key["key_id"]): key
        for key in found
        if key.get("key_id") and key.get("state") in ("active", PEPPER_ENDED)
    }
    with changing:
        _change_key_form(desk, usable)
    with listing:
        _listing(desk, found, usable, used)


def _listing(
    desk: AdminDesk,
    found: list[Mapping[str, Any]],
    usable: Mapping[str, Mapping[str, Any]],
    used: Mapping[str, int] | None,
) -> None:
    """Draw what to look for, and the keys that were found."""
    words = st.text_input("Search", placeholder="a name, a tenant, a state …")
    which = st.segmented_control(
        "Which keys", (_EVERY, _UNUSED, _EXPIRING), default=_EVERY, required=True
    )
    listed = found
    if which == _UNUSED:
        # The API knows how far back last uses are known: what it cannot know is not on its list.
        listed = desk.listed("keys", query={"unused_days": str(UNUSED_DAYS)}) or []
    elif which == _EXPIRING:
        listed = [key for key in found if expiring(key)]
    rows = {str(key.get("key_id")): key_row(key, used) for key in listed}
    _key_table(desk, {name: row for name, row in rows.items() if matching([row], words)}, usable)


def _key_table(
    desk: AdminDesk, rows: Mapping[str, Row], usable: Mapping[str, Mapping[str, Any]]
) -> None:
    """Draw the keys, each active one with its button."""
    key_ids = list(rows)
    drawn = f"rotate {hash(tuple(key_ids))}"

    def chosen() -> None:
        if click := st.session_state.get(drawn):
            st.session_state[TO_ROTATE] = key_ids[click["row"]]

    table(
        [{"Rotate": _ROTATE if name in usable else None, **row} for name, row in rows.items()],
        "No key matches.",
        key=f"keys {drawn}",
        Rotate=st.column_config.ButtonColumn(
            "", type="tertiary", width=90, pinned=True, on_click=chosen, key=drawn
        ),
    )
    key_id = st.session_state.pop(TO_ROTATE, None)
    if key_id in usable:
        _confirm_rotation(desk, usable[key_id])


@st.dialog("Rotate a key", icon=":material/autorenew:")
def _confirm_rotation(desk: AdminDesk, key: Mapping[str, Any]) -> None:
    desk.require_admin_still()  # a dialog draws itself
    users = key.get("forwarded_for") or []
    st.markdown(
        f"**{plain(str(key.get('name')))}** of {plain(str(key.get('tenant')))} gets a new secret. "
        "The old one works for a week more, and an hour after the new one is first used."
    )
    if users:
        st.markdown(f"This web app goes on with it by itself, for {plain(', '.join(users))}.")
    else:
        st.markdown("You see the new key once, to hand it to whoever uses it.")
    at = st.empty()  # the button goes when it has done its work
    if at.button("Rotate now", type="primary", width="stretch"):
        at.empty()
        desk.rotate(str(key["key_id"]), users)


def _issue_form(desk: AdminDesk, tenant_names: list[str]) -> None:
    tenant = st.selectbox("Tenant", tenant_names, key="issue_tenant")
    name = st.text_input("Name of the key")
    scopes = st.multiselect(
        "It may", [scope.value for scope in Scope], default=[Scope.GENERATE.value]
    )
    days = st.number_input("Expires in days (0: never)", min_value=0, max_value=3650, value=90)
    if st.form_submit_button("Issue", type="primary"):
        body: dict[str, Any] = {"tenant": tenant, "name": name.strip(), "scopes": scopes}
        if days:
            body["expires_at"] = int(time.time()) + int(days) * DAY_SECONDS
        desk.change("POST", "keys", body, f"The key {plain(name.strip())} was issued.")


def _change_key_form(desk: AdminDesk, usable: Mapping[str, Mapping[str, Any]]) -> None:
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
        desk.rotate(chosen, usable[chosen].get("forwarded_for") or [])
    if right.button("Revoke", width="stretch", disabled=not chosen) and chosen:
        if not reason.strip():
            st.error("A revocation needs a reason.", icon=":material/error:")
            return
        body = {"reason": reason.strip()}
        name = plain(str(usable[chosen].get("name")))
        question = f"Revoke **{name}** for ever? The next request with it is refused."
        desk.ask(question, "POST", f"keys/{chosen}/revoke", body, "The key is revoked.")
