"""Custom GPT Model: give a beginning, watch the text come, stop it, go on from it, compare."""

import time

import streamlit as st

from web import browser_session
from web.generate_form import (
    LAST_SEED,
    draw_cost,
    draw_prompt,
    draw_settings,
    form_as_it_stands,
    remember_asked,
    set_settings,
    still_there,
)
from web.output_panel import Panel, draw_nothing_yet, draw_wait, output_panels
from web.request_form import LARGEST_NUM_CHARS
from web.sentences import beside_fields, label_of, unknown_chars
from web.services import installed
from web.text_actions import Wish, draw_actions
from web.texts import found, label, text_of, with_text

PANELS = "panels"  # what is shown beside the form: [{"id": of a run or text, "before": text}]
TEXTS = "texts"  # of this visit, the newest first
UNKNOWN = "unknown_chars"  # to the model, as far as it refused them in this visit

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
largest = account_view.max_num_chars or LARGEST_NUM_CHARS
running = any(view is not None and view.running for view in views)
waiting = services.runs.wait_of(account.username) is not None

form = form_as_it_stands(largest)
refused: dict[str, str] = {}
for number, view in enumerate(views):
    if view is None or view.error is None:
        continue
    state[UNKNOWN] = {*state.get(UNKNOWN, ()), *unknown_chars(view.error)}
    for field, told in beside_fields(view.error).items():
        second = number > 0 and field == "temperature"
        refused[f"second_{field}" if second else field] = told
refused = still_there(refused)
problems = {**refused, **form.problems}


def started(wish: Wish, beside: str | None) -> dict[str, str]:
    """Start a generation and return its panel; of what is shown, one other may stay."""
    run_id = services.runs.start(
        username=account.username,
        tab=browser_session.tab_id(),
        login_id=session.login_id,
        body=wish.body,
        beside=beside,
    )
    state[LAST_SEED] = wish.body["seed"]
    return {"id": run_id, "before": wish.before}


st.title("Custom GPT Model")
# The style lays them out: on a wide screen what comes out is beside both, on a narrow one between.
desk = st.container(key="desk")
ask, output, settings = (desk.container(key=key) for key in ("ask", "output", "settings"))

with ask:
    draw_prompt(problems, state.get(UNKNOWN, set()))
    with st.container(horizontal=True):
        generate = st.button(
            "Generate Text",
            type="primary",
            width="stretch",
            shortcut="Ctrl+Enter",
            disabled=running or waiting,
        )
        stop = st.button("Stop", width=140, shortcut="Esc", disabled=not running)
    if form.problems:
        st.caption(
            f":orange[:material/warning:] Please mend: {', '.join(map(label_of, form.problems))}."
        )
    else:
        draw_cost(account_view)

with settings:
    draw_settings(largest, problems)
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
if generate and not running and not waiting and not form.problems:
    remember_asked(of_form=True)
    shown = [started(Wish(form.first.body), None)]
    if form.second is not None:
        shown.append(started(Wish(form.second.body), shown[0]["id"]))
    state[PANELS] = shown
    st.rerun()

wish, wished_at = None, 0
with output:
    if not panels:
        draw_nothing_yet(account_view.error)
    if waiting and not any(view is not None and view.blocks_generating for view in views):
        draw_wait(services.runs, account.username)
    if panels:
        shown_texts = [found(texts, panel["id"]) for panel in panels]
        output_panels(
            services.runs,
            [
                text if view is None else Panel(panel["id"], panel["before"], view)
                for panel, view, text in zip(panels, views, shown_texts, strict=True)
            ],
            marked=bool(refused),
        )
        for number, (place, text) in enumerate(
            zip(st.columns(len(panels)), shown_texts, strict=True)
        ):
            if text is not None and not running:
                with place:
                    url = services.settings.api_url
                    pressed = draw_actions(text, api_url=url, disabled=waiting)
                    wish, wished_at = (wish, wished_at) if pressed is None else (pressed, number)
if wish is not None and not waiting:
    remember_asked(of_form=False)
    others = [panel["id"] for number, panel in enumerate(panels) if number != wished_at]
    panels[wished_at] = started(wish, others[0] if others else None)
    st.rerun()
