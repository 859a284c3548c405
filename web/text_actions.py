"""What one can do with a text: write on, try again, take it along, make the same call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from web.request_form import continued, roll_seed
from web.snippets import snippets
from web.texts import Text, as_json


@dataclass(frozen=True, slots=True)
class Wish:
    """A generation to begin: its body, and the text that it goes on from."""

    body: Mapping[str, Any]
    before: str = ""


def draw_actions(text: Text, *, api_url: str, disabled: bool) -> Wish | None:
    """Draw the buttons under a text and return what was pressed for, if anything."""
    key, whole = text["id"], text["before"] + text["text"]
    body = {**text["settings"], "stream": True}
    wish = None
    with st.container(horizontal=True):
        if st.button(
            "Continue",
            key=f"continue-{key}",
            icon=":material/arrow_forward:",
            help="Write on from where this text ends",
            disabled=disabled or not whole,
        ):
            wish = Wish(continued(body, text["text"], roll_seed()), whole)
        if st.button(
            "Regenerate",
            key=f"regenerate-{key}",
            icon=":material/refresh:",
            help="The same settings with another seed",
            disabled=disabled,
        ):
            wish = Wish({**body, "seed": roll_seed()}, text["before"])
        if st.button(
            "Same again",
            key=f"again-{key}",
            icon=":material/replay:",
            help="The same settings with the same seed: the same text",
            disabled=disabled,
        ):
            wish = Wish(body, text["before"])
    with st.container(horizontal=True):
        for ending, data, kind in (
            (".txt", whole, "text/plain"),
            (".json", as_json(text), "application/json"),
        ):
            st.download_button(
                ending,
                data,
                f"quillgate-{text['settings'].get('seed')}{ending}",
                kind,
                key=f"download{ending}-{key}",
                icon=":material/download:",
                help=f"Download as {ending}",
                on_click="ignore",
            )
    _draw_programs(text, api_url)
    return wish


def _draw_programs(text: Text, api_url: str) -> None:
    """Draw the call as a program, once somebody wants to see it."""
    unfolded = st.expander(
        "This call in a program",
        icon=":material/code:",
        key=f"programs-{text['id']}",
        on_change="rerun",
    )
    if not unfolded.open:
        return
    programs = snippets(api_url, text["settings"])
    with unfolded:
        name = st.segmented_control(
            "Language", list(programs), default="curl", key=f"language-{text['id']}", required=True
        )
        # Not coloured: Streamlit's colours for programs are too faint for some to read.
        st.code(programs[name or "curl"], language=None, wrap_lines=True)
        st.caption(
            "Set GPT_API_KEY to an API key of your own first: "
            "Rotate on the page My API key shows one."
        )
