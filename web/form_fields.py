"""The fields of a form that a person fills and the page may fill too; neither undoes the other.

A browser sends all that its fields hold with each message, and on a slow line it may send before it
has heard of what the page put into one. So a field that the page fills gets another key: what comes
later about the field of the old key counts for nothing, and all other fields are the person's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

_FILLED = "times_filled"  # by the page, of each field


def key_of(name: str) -> str:
    """Return the widget's key of a field as it stands now."""
    return f"{name} {st.session_state.setdefault(_FILLED, {}).get(name, 0)}"


def value_of(name: str) -> Any:
    """Return what stands in a field."""
    return st.session_state[key_of(name)]


def fill(values: Mapping[str, Any]) -> None:
    """Let these values stand in their fields, which are drawn anew."""
    state = st.session_state
    for name, value in values.items():
        state.setdefault(_FILLED, {})[name] = state.get(_FILLED, {}).get(name, 0) + 1
        state[key_of(name)] = value


def begin_with(values: Mapping[str, Any]) -> None:
    """Let these values stand in the fields in which nothing ever stood."""
    for name, value in values.items():
        st.session_state.setdefault(key_of(name), value)
