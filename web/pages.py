"""Which pages a person has. Hiding is a courtesy: a page checks its reader itself."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

_PAGES = Path(__file__).with_name("app_pages")
_PATHS = ("usage", "key")


def logged_in_pages() -> list[StreamlitPage]:
    """Return the pages of a person, the first of which is the start."""
    return [
        st.Page(
            _PAGES / "generate.py",
            title="Custom GPT Model",
            icon=":material/stylus_note:",
            default=True,
        ),
        st.Page(_PAGES / "usage.py", title="Usage", icon=":material/bar_chart:", url_path="usage"),
        st.Page(_PAGES / "my_key.py", title="My API key", icon=":material/key:", url_path="key"),
    ]


def login_pages() -> list[StreamlitPage]:
    """Return the login form at every page's path, so that a login leads to where one was going."""
    form = _PAGES / "login.py"
    elsewhere = (st.Page(form, title="Login", url_path=path) for path in _PATHS)
    return [st.Page(form, title="Login", default=True), *elsewhere]
