"""Which pages a person has. Hiding is a courtesy: a page checks its reader itself."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from web.accounts import Account
from web.browser_session import ADMIN_ROLE

_PAGES = Path(__file__).with_name("app_pages")
_PATHS = ("usage", "key", "admin")


def logged_in_pages(account: Account) -> list[StreamlitPage]:
    """Return the account's pages, the first of which is the start."""
    pages = [
        st.Page(
            _PAGES / "generate.py",
            title="Custom GPT Model",
            icon=":material/stylus_note:",
            default=True,
        ),
        st.Page(_PAGES / "usage.py", title="Usage", icon=":material/bar_chart:", url_path="usage"),
        st.Page(_PAGES / "my_key.py", title="My API key", icon=":material/key:", url_path="key"),
    ]
    if ADMIN_ROLE in account.roles:
        admin = _PAGES / "admin.py"
        pages.append(
            st.Page(admin, title="Admin", icon=":material/shield_person:", url_path="admin")
        )
    return pages


def login_pages() -> list[StreamlitPage]:
    """Return the login form at every page's path, so that a login leads to where one was going."""
    return _everywhere("login.py", "Login")


def first_password_pages() -> list[StreamlitPage]:
    """Return the form for a password of one's own, at every path: there is nothing else yet."""
    return _everywhere("first_password.py", "A password of your own")


def _everywhere(script: str, title: str) -> list[StreamlitPage]:
    form = _PAGES / script
    elsewhere = (st.Page(form, title=title, url_path=path) for path in _PATHS)
    return [st.Page(form, title=title, default=True), *elsewhere]
