"""Admin: load, tenants, keys, users and the audit, for those whose role says so now."""

import streamlit as st

from web import admin_keys, admin_panels, browser_session
from web.admin_desk import AdminDesk
from web.services import installed

services = installed()
session, _account = browser_session.require_admin(services)
desk = AdminDesk(services, session)
panels = {
    "Load": admin_panels.load,
    "Tenants": admin_panels.tenants,
    "Keys": admin_keys.keys,
    "Users": admin_panels.users,
    "Audit": admin_panels.audit,
}

st.title("Admin")
with st.container():  # always there, or the tabs would move and open the first again
    desk.what_was_done()
# Only the open tab asks the API: a list of keys is read from the secret store.
for tab, panel in zip(
    st.tabs(list(panels), key="admin_tab", on_change="rerun"), panels.values(), strict=True
):
    if tab.open:
        with tab:
            panel(desk)
desk.asked_question()
