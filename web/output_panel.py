"""The right half of the generation page: text as it comes, how far it is, and how it ended.

Text is shown as code, which is literal: no Markdown, no HTML, no picture from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from web import browser_session
from web.api_client import ApiError
from web.redrawn import redrawn
from web.run import RunState, RunView
from web.runs import Runs
from web.sentences import FIELD_LABELS, beside_fields, duration, plain, sentence
from web.services import installed
from web.texts import Text, ending, past_ending

POLL_SECONDS = 0.25
COUNTDOWN_SECONDS = 1.0
LONG_WAIT_SECONDS = 300.0  # beyond it the countdown moves once a minute

_EXPLAINED = (422, 429)  # the person can help themselves; nobody needs to look it up


@dataclass(frozen=True, slots=True)
class Panel:
    """A run that is shown."""

    run_id: str
    # The very look that the page drew its buttons from: a run that ended since then is a change
    # that the page must be drawn for again.
    at_start: RunView


def output_panels(
    runs: Runs, panels: Sequence[Panel | Text | None], *, marked: bool = False
) -> None:
    """Draw runs and texts side by side, and go on drawing them while something moves.

    All are drawn together: where each asked for the page to be drawn again, one could cut off
    what the other had asked for. `marked`: what the API refused stands marked in the form.
    """
    waits = [_redraw_every(one.at_start) for one in panels if isinstance(one, Panel)]

    @redrawn(every=min((wait for wait in waits if wait is not None), default=None))
    def draw() -> None:
        browser_session.require(installed())
        changed = False
        for place, one in zip(st.columns(len(panels)), panels, strict=True):
            with place:
                if isinstance(one, Panel):
                    view = runs.view(one.run_id)
                    if view is not None:
                        _draw(view, marked=marked)
                        changed |= _phase(view) != _phase(one.at_start)
                elif one is not None:
                    _draw_past(one)
        if changed:
            st.rerun()  # the buttons beside the panels change too

    draw()


def draw_wait(runs: Runs, username: str) -> None:
    """Count down to when the API takes requests again, where no refused text does: after a reload.

    Nothing is drawn once that time has come.
    """
    at_start = runs.wait_of(username)
    if at_start is None:
        return

    @redrawn(every=_every(at_start.seconds))
    def countdown() -> None:
        wait = runs.wait_of(username)
        if wait is None:
            st.rerun()
        else:
            _draw_countdown(sentence(wait.error), wait.seconds)

    countdown()


def _draw_past(text: Text) -> None:
    """Draw a text of this visit again."""
    st.caption(past_ending(text))
    _draw_text(text["before"] + text["text"])


def draw_nothing_yet(account_error: ApiError | None) -> None:
    """Say where the text will be, or why there may be none."""
    if account_error is not None and account_error.code == "stalled":
        st.info(
            "The API is slow to answer: it may be waking up. You can generate all the same.",
            icon=":material/hourglass_top:",
        )
        return
    if account_error is not None:
        st.error(sentence(account_error), icon=":material/error:")
        return
    with st.container(
        border=True, height=240, horizontal_alignment="center", vertical_alignment="center"
    ):
        st.caption("The text appears here, character by character.", width="content")


def _redraw_every(view: RunView) -> float | None:
    if view.running:
        return POLL_SECONDS
    return _every(view.retry_in_seconds) if view.retry_in_seconds > 0 else None


def _every(wait_seconds: float) -> float:
    return 60.0 if wait_seconds > LONG_WAIT_SECONDS else COUNTDOWN_SECONDS


def _phase(view: RunView) -> tuple[bool, bool]:
    return view.running, view.retry_in_seconds > 0


def _draw(view: RunView, *, marked: bool) -> None:
    if view.state is RunState.WAITING:
        st.progress(0.0, text="Waiting for the first characters …")
    elif view.state is RunState.WRITING:
        st.progress(min(1.0, len(view.text) / view.num_chars), text=_pace(view))
    elif view.error is None:
        st.caption(ending(view))
    else:
        _draw_error(view, view.error, marked=marked)
    if view.before or view.text:
        _draw_text(view.before + view.text)


def _draw_text(text: str) -> None:
    # st.code takes one line end off either side; the text keeps its own.
    st.code(f"\n{text}\n", language=None, wrap_lines=True)


def _draw_error(view: RunView, error: ApiError, *, marked: bool) -> None:
    fields = beside_fields(error)
    if fields and not marked:
        told = " ".join(f"{FIELD_LABELS[name]}: {text}" for name, text in fields.items())
        st.caption(f"This was refused. {plain(told)}")
        return
    told = "Please look at the marked field." if fields else sentence(error)
    if view.retry_in_seconds > 0:
        _draw_countdown(told, view.retry_in_seconds)
    elif error.retry_after_seconds:
        st.info("You can generate again.", icon=":material/check:")
    else:
        st.error(told, icon=":material/error:")
    if error.request_id and error.status not in _EXPLAINED:
        st.caption(f"Reference {plain(error.request_id)}")


def _draw_countdown(told: str, seconds: float) -> None:
    st.warning(f"{told} Try again in {duration(seconds)}.", icon=":material/hourglass_top:")


def _pace(view: RunView) -> str:
    rate = len(view.text) / view.seconds if view.seconds > 0 else 0.0
    return f"{len(view.text):,} of {view.num_chars:,} characters · {rate:,.0f} a second"
