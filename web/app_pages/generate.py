"""Custom GPT Model: give a beginning, watch the text come, stop it, go on from it, compare."""

import time

import streamlit as st

from web import browser_session
from web.generate_form import LAST_SEED, draw_form, set_settings
from web.output_panel import draw_nothing_yet, draw_past, output_panel
from web.sentences import beside_fields
from web.services import installed
from web.text_actions import Wish, draw_actions
from web.texts import found, label, text_of, with_text

PANELS = "panels"  # what is shown beside the form: [{"id": of a run or text, "before": text}]
TEXTS = "texts"  # of this visit, the newest first
PROBLEMS = "form_problems"

services = installed()
session, account = browser_session.require(services)
state = st.session_state
panels = state.setdefault(PANELS, [])
views = [services.runs.view(panel["id"]) for panel in panels]

for panel, view in zip(panels, views, strict=True):
    if view is None or view.running or not view.text:
        continue
    if found(state.get(TEXTS, []), panel["id"]) is None:
        at = time.strftime("%H:%M", time.gmtime())
        state[TEXTS] = with_text(
            state.get(TEXTS, []), text_of(panel["id"], panel["before"], view, f"{at} UTC")
        )
        services.account_views.forget(account.username)  # something was used
texts = state.get(TEXTS, [])
account_view = services.account_views.of(account.username)
running = any(view is not None and view.running for view in views)
waiting = any(view is not None and view.blocks_generating for view in views)
problems = state.get(PROBLEMS) or {
    field: text
    for view in views
    if view is not None
    for field, text in beside_fields(view.error).items()
}


def begin(wishes: list[Wish]) -> None:
    """Start these generations, side by side, in the place of what was shown."""
    shown: list[dict[str, str]] = []
    for wish in wishes:
        run_id = services.runs.start(
            username=account.username,
            tab=browser_session.tab_id(),
            login_id=session.login_id,
            body=wish.body,
            beside=shown[0]["id"] if shown else None,
        )
        shown.append({"id": run_id, "before": wish.before})
    state[PANELS], state[PROBLEMS] = shown, {}
    state[LAST_SEED] = wishes[0].body["seed"]


st.title("Custom GPT Model")
settings, output = st.columns([5, 6], gap="medium")

with settings:
    form = draw_form(account_view, problems)
    generate_at, stop_at = st.columns([2, 1])
    generate = generate_at.button(
        "Generate Text",
        type="primary",
        width="stretch",
        shortcut="Ctrl+Enter",
        disabled=running or waiting,
    )
    stop = stop_at.button("Stop", width="stretch", shortcut="Esc", disabled=not running)
    if texts:
        with st.expander("Texts of this visit", icon=":material/history:"):
            chosen = st.selectbox(
                "Text",
                [text["id"] for text in texts],
                format_func=lambda text_id: label(found(texts, text_id) or texts[0]),
            )
            restore_at, clear_at = st.columns(2)
            restore = restore_at.button("Restore", width="stretch", disabled=running)
            if clear_at.button("Forget all", width="stretch", disabled=running):
                state[TEXTS], state[PANELS] = [], []
                st.rerun()
        kept = found(texts, chosen)
        if restore and kept is not None:
            state[PANELS] = [{"id": kept["id"], "before": kept["before"]}]
            set_settings(kept["settings"])
            st.rerun()

if stop:
    for panel in panels:
        services.runs.stop(panel["id"])
    st.rerun()
if generate and not running and not waiting:
    state[PROBLEMS] = dict(form.problems)
    if not form.problems:
        second = [] if form.second is None else [Wish(form.second.body)]
        begin([Wish(form.first.body), *second])
    st.rerun()

wish = None
with output:
    places = st.columns(len(panels) or 1)  # always there: what streams has a place that stays
    if not panels:
        with places[0]:
            draw_nothing_yet(account_view.error)
    for place, panel, view in zip(places, panels, views, strict=False):
        with place:
            text = found(texts, panel["id"])
            if view is not None:
                output_panel(services.runs, panel["id"], panel["before"], view)
            elif text is not None:
                draw_past(text)
            if text is not None and not running:
                url = services.settings.api_url
                wish = draw_actions(text, api_url=url, disabled=waiting) or wish
if wish is not None and not waiting:
    begin([wish])
    st.rerun()
