"""Admin: keys, tenants and the audit, for those whose role says so now."""

import streamlit as st

from web import browser_session
from web.admin_panels import AdminPanels
from web.services import installed

services = installed()
session, account = browser_session.require_admin(services)
panels = AdminPanels(services.user_api, services.key_rotation, account.username)

st.title("Admin")
with st.container():  # always there, or the tabs would move and open the first again
    panels.what_was_done()
keys, tenants, audit = st.tabs(["Keys", "Tenants", "Audit"])
with keys:
    panels.keys()
with tenants:
    panels.tenants()
with audit:
    panels.audit()
