"""The fields of a form that a person fills and the page may fill too; neither undoes the other.

A browser sends all that its fields hold with each message, and on a slow line it may send before it
has heard of what the page put into one. So a field that the page fills gets another key: what comes
later about the field of the old key counts for nothing, and all other fields are the person's.
What a field begins with is its widget's `value`: what the browser knows better, as after a restart
of this process, comes through. The keys are of one login: what a browser holds of another's fields,
as in a tab that slept while somebody else logged in, counts for nothing either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

_LOGIN = "fields_of_login"  # its tag
_FILLED = "times_filled"  # by the page, of each field
_BEGAN = "began_with"  # what stood in each field when its present key was new


def key_of(name: str) -> str:
    """Return the widget's key of a field as it stands now."""
    filled = st.session_state.get(_FILLED, {}).get(name, 0)
    return f"{name} {filled} {st.session_state.get(_LOGIN)}"


def start_of(name: str) -> Any:
    """Return what the field begins with: its widget's value."""
    return st.session_state[_BEGAN][name]


def value_of(name: str) -> Any:
    """Return what stands in a field."""
    return st.session_state.get(key_of(name), start_of(name))


def fill(values: Mapping[str, Any]) -> None:
    """Let these values stand in their fields, which are drawn anew."""
    filled, began = st.session_state.setdefault(_FILLED, {}), st.session_state[_BEGAN]
    for name, value in values.items():
        filled[name] = filled.get(name, 0) + 1
        began[name] = value


def begin_with(login: str, values: Mapping[str, Any], earlier: Mapping[str, Any]) -> None:
    """Let these values stand in the fields of a login's new tab, or what `as_they_stand` returned.

    A browser that still shows the fields of then goes on with them.
    """
    fields = {name: earlier.get(name, (value, 0)) for name, value in values.items()}
    st.session_state[_LOGIN] = login
    st.session_state[_BEGAN] = {name: value for name, (value, _) in fields.items()}
    st.session_state[_FILLED] = {name: filled for name, (_, filled) in fields.items()}


def as_they_stand() -> dict[str, Any]:
    """Return the fields, to begin with them in another tab: plain values."""
    filled = st.session_state[_FILLED]
    return {name: [value_of(name), filled.get(name, 0)] for name in st.session_state[_BEGAN]}
