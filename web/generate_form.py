"""The form of the generation page: what a person sets, and how the page sets it for them.

A field that is on the page cannot be set by the page any more in the same run; what is to stand
in a field is left for the next run, which puts it there before it draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from web.account_view import AccountView
from web.key_facts import cost_line
from web.request_form import (
    LARGEST_NUM_CHARS,
    MAX_PROMPT_CHARS,
    PRESETS,
    CheckedForm,
    check_form,
    roll_seed,
)
from web.sentences import plain

KEEP = "keep_seed"
_PENDING = "pending_fields"
_SEED_IS_NEW = "seed_is_new"
_TYPES = {"seed": str, "temperature": float, "num_chars": int, "top_k": int, "top_p": float}
_DEFAULTS: Mapping[str, Any] = {
    "prompt": "",
    "seed": "",
    "temperature": 0.8,
    "second_temperature": 1.2,
    "num_chars": 200,
    "top_k": None,
    "top_p": None,
    "compare": False,
    KEEP: False,
}


@dataclass(frozen=True, slots=True)
class Filled:
    """The form as it stands."""

    first: CheckedForm
    second: CheckedForm | None  # the same at another temperature, to run beside it

    @property
    def problems(self) -> Mapping[str, str]:
        if self.second is None:
            return self.first.problems
        other = {f"second_{name}": text for name, text in self.second.problems.items()}
        return {**self.first.problems, **other}


def set_fields(values: Mapping[str, Any]) -> None:
    """Let these values stand in the form from the next run on."""
    st.session_state[_PENDING] = {**st.session_state.get(_PENDING, {}), **values}


def set_settings(settings: Mapping[str, Any]) -> None:
    """Let the settings of an earlier text stand in the form; its seed is kept."""
    values = {name: _DEFAULTS[name] for name in ("prompt", "top_k", "top_p")}
    for name, value in settings.items():
        values[name] = _TYPES.get(name, str)(value)
    set_fields({**values, KEEP: True, "compare": False})


def draw_form(view: AccountView, problems: Mapping[str, str]) -> Filled:
    """Draw the fields, each with what is wrong with it, and return what is in them."""
    largest = view.max_num_chars or LARGEST_NUM_CHARS
    _fill(largest)

    def problem(field: str) -> None:
        if field in problems:
            st.error(plain(problems[field]))

    st.text_area(
        "Prompt",
        key="prompt",
        persist_state="session",
        height=160,
        max_chars=MAX_PROMPT_CHARS,
        placeholder="Write a beginning, or leave it empty to let the model begin.",
    )
    problem("prompt")
    _draw_seed()
    problem("seed")
    st.pills(
        "Preset",
        list(PRESETS),
        key="preset",
        on_change=_take_preset,
        help="Settings to begin with: Precise keeps to the likeliest, Bold dares more.",
    )
    left, right = st.columns(2)
    with left:
        _draw_temperature("Temperature", "temperature")
        problem("temperature")
    with right:
        st.number_input(
            "Number of characters",
            key="num_chars",
            persist_state="session",
            min_value=1,
            max_value=largest,
            step=50,
            help=f"How many to write, at most {largest:,}.",
        )
        problem("num_chars")
    sampling = any(name in problems for name in ("top_k", "top_p", "second_temperature"))
    with st.expander("More", expanded=sampling):
        _draw_more(problem)
    state = st.session_state
    compared = 2 if state["compare"] else 1
    said, enough = cost_line(view.document, compared * int(state["num_chars"] or 0))
    if said:
        st.caption(said if enough else f":orange[:material/warning:] {said}")
    return _filled(largest)


def seed_for_next() -> str:
    """Return what the seed's field says for the next text: a new one unless it is to be kept."""
    state = st.session_state
    if state[KEEP] or state.get(_SEED_IS_NEW):
        return str(state["seed"])
    return ""


def _fill(largest: int) -> None:
    state = st.session_state
    for name, value in _DEFAULTS.items():
        state.setdefault(name, value)
    for name, value in state.pop(_PENDING, {}).items():
        state[name] = value
    if state["num_chars"] is not None:
        state["num_chars"] = max(1, min(largest, state["num_chars"]))


def _draw_seed() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Seed",
            key="seed",
            persist_state="session",
            placeholder="random",
            on_change=_seed_was_typed,
            help="The same seed with the same settings gives the same text. Empty: a random one.",
        )
        if st.button("Roll", icon=":material/casino:", help="Put another random seed here"):
            st.session_state[_SEED_IS_NEW] = True
            set_fields({"seed": str(roll_seed())})
            st.rerun()
        st.toggle(
            "Keep",
            key=KEEP,
            persist_state="session",
            help="Keep this seed for the next texts too; otherwise each gets a new one.",
        )


def _draw_temperature(name: str, key: str) -> None:
    st.number_input(
        name,
        key=key,
        persist_state="session",
        min_value=0.0,
        max_value=2.0,
        step=0.1,
        format="%.2f",
        on_change=_leave_preset,
        help="0 always takes the likeliest character; higher is bolder.",
    )


def _draw_more(problem: Any) -> None:
    left, right = st.columns(2)
    with left:
        st.number_input(
            "Top k",
            value=None,
            key="top_k",
            persist_state="session",
            min_value=1,
            step=1,
            placeholder="all",
            help="Choose among this many likeliest characters only.",
        )
        problem("top_k")
    with right:
        st.number_input(
            "Top p",
            value=None,
            key="top_p",
            persist_state="session",
            min_value=0.0,
            max_value=1.0,
            step=0.05,
            format="%.2f",
            placeholder="all",
            help="Choose among the likeliest characters that together have this probability.",
        )
        problem("top_p")
    st.toggle(
        "Compare two temperatures",
        key="compare",
        persist_state="session",
        help="Write two texts side by side, with the same seed.",
    )
    if st.session_state["compare"]:
        _draw_temperature("Second temperature", "second_temperature")
        problem("second_temperature")


def _filled(largest: int) -> Filled:
    state = st.session_state
    fields: dict[str, Any] = {
        "prompt": state["prompt"],
        "seed": seed_for_next(),
        "num_chars": state["num_chars"],
        "top_k": state["top_k"],
        "top_p": state["top_p"],
        "max_num_chars": largest,
    }
    first = check_form(temperature=state["temperature"], **fields)
    if not state["compare"]:
        return Filled(first, None)
    fields["seed"] = str(first.body["seed"]) if first.body else fields["seed"]
    return Filled(first, check_form(temperature=state["second_temperature"], **fields))


def _seed_was_typed() -> None:
    st.session_state[KEEP] = bool(st.session_state["seed"].strip())


def _take_preset() -> None:
    preset = PRESETS.get(st.session_state["preset"] or "")
    if preset is not None:
        for name in ("temperature", "top_k", "top_p"):
            st.session_state[name] = getattr(preset, name)


def _leave_preset() -> None:
    st.session_state["preset"] = None


def seed_was_used(body: Mapping[str, Any]) -> None:
    """Show in the form which seed a text got."""
    st.session_state[_SEED_IS_NEW] = False
    set_fields({"seed": str(body["seed"])})
