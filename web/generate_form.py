"""The form of the generation page: what a person sets, and how the page sets it for them.

What stands in a field is what is used: a seed in its field is every text's, an empty field gives
each text a seed of its own. On a slow line too: see `web.form_fields`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import streamlit as st

from web.account_view import AccountView
from web.form_fields import begin_with, fill, key_of, start_of, value_of
from web.key_facts import cost_line
from web.request_form import (
    PRESETS,
    CheckedForm,
    check_form,
    roll_seed,
)
from web.sentences import plain
from web.sessions import Session
from web.unknown_chars import mended, offer
from web.visits import Visit

LAST_SEED = "last_seed"  # that a text of this visit was written with
_ASKED = "asked"  # what stood in the fields then
_UNFOLDED = "unfolded"  # whether "More" began open: a tab that goes on comparing shows where
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
}
_OF_PRESETS = ("temperature", "top_k", "top_p")


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


def set_settings(settings: Mapping[str, Any]) -> None:
    """Let the settings of an earlier text stand in the form, its seed among them."""
    values = {name: _DEFAULTS[name] for name in ("prompt", "top_k", "top_p")}
    for name, value in settings.items():
        values[name] = _TYPES.get(name, str)(value)
    fill({**values, "compare": False})


def begin_form(session: Session, visit: Visit) -> None:
    """Let a new tab begin with what the visit left in the fields."""
    begin_with(session.tag, _DEFAULTS, visit.fields)
    st.session_state[_UNFOLDED] = value_of("compare")


def form_as_it_stands(largest: int) -> Filled:
    """Return what is in the form, whether it is drawn already or not."""
    names = ("prompt", "seed", "num_chars", "top_k", "top_p")
    fields = {name: value_of(name) for name in names} | {"max_num_chars": largest}
    first = check_form(temperature=value_of("temperature"), **fields)
    if not value_of("compare"):
        return Filled(first, None)
    fields["seed"] = str(first.body["seed"]) if first.body else fields["seed"]
    return Filled(first, check_form(temperature=value_of("second_temperature"), **fields))


def remember_asked(*, of_form: bool) -> None:
    """Remember what stood in the fields when a text was asked for, if the form asked for it."""
    asked = {name: value_of(name) for name in _DEFAULTS} if of_form else {}
    st.session_state[_ASKED] = asked


def still_there(refused: Mapping[str, str]) -> dict[str, str]:
    """Return of what the API refused that which still stands in its field."""
    asked = st.session_state.get(_ASKED, {})
    return {
        name: told
        for name, told in refused.items()
        if name in asked and asked[name] == value_of(name)
    }


def draw_prompt(problems: Mapping[str, str], unknown: Collection[str]) -> None:
    """Draw the prompt and, where the model does not know some of its characters, a way out."""
    st.text_area(
        "Prompt",
        value=start_of("prompt"),
        key=key_of("prompt"),
        persist_state="session",
        height=160,
        # No max_chars: a browser then drops all of a longer paste, and says nothing.
        placeholder="Write a beginning, or leave it empty to let the model begin.",
    )
    _draw_problem(problems, "prompt")
    prompt = value_of("prompt")
    way_out = offer(prompt, unknown) if "prompt" in problems else ""
    if way_out:
        repaired = {"prompt": mended(prompt, unknown)}
        st.button(way_out, icon=":material/healing:", on_click=fill, args=(repaired,))


def draw_settings(largest: int, problems: Mapping[str, str]) -> None:
    """Draw all other fields, each with what is wrong with it.

    None has the browser's own bounds: a value beyond them would never arrive here to be told of.
    """
    _draw_seed()
    _draw_problem(problems, "seed")
    _draw_presets()
    left, right = st.columns(2)
    with left:
        _draw_temperature("Temperature", "temperature")
        _draw_problem(problems, "temperature")
    with right:
        st.number_input(
            "Number of characters",
            value=start_of("num_chars"),
            key=key_of("num_chars"),
            persist_state="session",
            step=50,
            help=f"How many to write, at most {largest:,}.",
        )
        _draw_problem(problems, "num_chars")
    sampling = any(name in problems for name in ("top_k", "top_p", "second_temperature"))
    with st.expander("More", expanded=sampling or st.session_state[_UNFOLDED]):
        _draw_more(problems)


def draw_cost(view: AccountView) -> None:
    """Draw what the text would cost, once that is known."""
    compared = 2 if value_of("compare") else 1
    chars = max(0, int(value_of("num_chars") or 0))
    said, enough = cost_line(view.document, compared * chars)
    if said:
        st.caption(said if enough else f":orange[:material/warning:] {said}")


def _draw_problem(problems: Mapping[str, str], field: str) -> None:
    if field in problems:
        st.error(plain(problems[field]))


def _draw_seed() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Seed",
            value=start_of("seed"),
            key=key_of("seed"),
            persist_state="session",
            placeholder="random",
            help="The same seed with the same settings gives the same text. "
            "Empty: each text gets a new one.",
        )
        # What is pressed here is done before anything is drawn, so no next click can overtake it.
        st.button(
            "Roll",
            icon=":material/casino:",
            help="Put a random seed here",
            on_click=lambda: fill({"seed": str(roll_seed())}),
        )
        last = st.session_state.get(LAST_SEED)
        if value_of("seed"):
            st.button(
                "Release",
                icon=":material/lock_open:",
                help="A new seed for each text",
                on_click=fill,
                args=({"seed": ""},),
            )
        else:
            st.button(
                "Keep",
                icon=":material/lock:",
                disabled=last is None,
                help="Write the next texts with the last one's seed too",
                on_click=fill,
                args=({"seed": str(last)},),
            )


def _draw_presets() -> None:
    """Draw the presets, of which that one is chosen whose settings stand in the form."""
    settings = {name: value_of(name) for name in _OF_PRESETS}
    chosen = next((name for name, one in PRESETS.items() if asdict(one) == settings), None)
    pressed = st.pills(
        "Preset",
        list(PRESETS),
        default=chosen,
        key=f"preset, after {chosen}",
        required=chosen is not None,
        help="Settings to begin with: Precise keeps to the likeliest, Bold dares more.",
    )
    if pressed is not None and pressed != chosen:
        fill(asdict(PRESETS[pressed]))
        st.rerun()


def _draw_temperature(name: str, key: str) -> None:
    st.number_input(
        name,
        value=start_of(key),
        key=key_of(key),
        persist_state="session",
        step=0.1,
        format="%.2f",
        help="0 always takes the likeliest character; higher is bolder.",
    )


def _draw_more(problems: Mapping[str, str]) -> None:
    left, right = st.columns(2)
    with left:
        st.number_input(
            "Top k",
            value=start_of("top_k"),
            key=key_of("top_k"),
            persist_state="session",
            step=1,
            placeholder="all",
            help="Choose among this many likeliest characters only.",
        )
        _draw_problem(problems, "top_k")
    with right:
        st.number_input(
            "Top p",
            value=start_of("top_p"),
            key=key_of("top_p"),
            persist_state="session",
            step=0.05,
            format="%.2f",
            placeholder="all",
            help="Choose among the likeliest characters that together have this probability.",
        )
        _draw_problem(problems, "top_p")
    st.toggle(
        "Compare two temperatures",
        value=start_of("compare"),
        key=key_of("compare"),
        persist_state="session",
        help="Write two texts side by side, with the same seed.",
    )
    if value_of("compare"):
        _draw_temperature("Second temperature", "second_temperature")
        _draw_problem(problems, "second_temperature")
