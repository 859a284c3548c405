"""Custom GPT Model: give a beginning, watch the text come, stop it, go on from it, compare."""

import streamlit as st

from web import browser_session
from web.form_fields import as_they_stand
from web.generate_form import (
    LAST_SEED,
    begin_form,
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
from web.texts import found, label

PANELS = "panels"  # what is shown beside the form: ids of runs or texts
UNKNOWN = "unknown_chars"  # to the model, as far as it refused them in this visit

services = installed()
session, account = browser_session.require(services)
state = st.session_state
if PANELS not in state:  # this tab is new, or was loaded anew: it goes on where the visit was
    visit = services.visits.of(session)
    begin_form(session, visit)
    state[PANELS] = list(visit.shown)
    services.runs.watch(state[PANELS], browser_session.tab_id())
views = {run_id: services.runs.view(run_id) for run_id in state[PANELS]}
texts = services.visits.of(session).texts  # after the views: what they show as ended is among them
if texts:
    state.setdefault(LAST_SEED, texts[0]["settings"].get("seed"))
panels = [one for one in state[PANELS] if views[one] is not None or found(texts, one) is not None]
account_view = services.account_views.of(account.username)
largest = account_view.max_num_chars or LARGEST_NUM_CHARS
running = any(view is not None and view.running for view in views.values())
waiting = services.runs.wait_of(account.username) is not None

form = form_as_it_stands(largest)
refused: dict[str, str] = {}
for number, view in enumerate(views[panel] for panel in panels):
    if view is None or view.error is None:
        continue
    state[UNKNOWN] = {*state.get(UNKNOWN, ()), *unknown_chars(view.error)}
    for field, told in beside_fields(view.error).items():
        second = number > 0 and field == "temperature"
        refused[f"second_{field}" if second else field] = told
refused = still_there(refused)
problems = {**refused, **form.problems}


def started(wish: Wish, beside: str | None) -> str:
    """Start a generation and return its id; of what is shown, one other may stay."""
    run_id = services.runs.start(
        username=account.username,
        tab=browser_session.tab_id(),
        login_id=session.login_id,
        body=wish.body,
        before=wish.before,
        beside=beside,
    )
    state[LAST_SEED] = wish.body["seed"]
    return run_id


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
                services.visits.forget_texts(session)
                state[PANELS] = []
                st.rerun()
        kept = found(texts, chosen)
        if restore and kept is not None:
            state[PANELS] = [kept["id"]]
            set_settings(kept["settings"])
            st.rerun()

services.visits.keep(session, as_they_stand(), panels)
if stop:
    for panel in panels:
        services.runs.stop(panel)
    st.rerun()
drawn_for, form = form, form_as_it_stands(largest)  # a browser may know more than a new tab did
if generate and not running and not waiting and not form.problems:
    remember_asked(of_form=True)
    shown = [started(Wish(form.first.body), None)]
    if form.second is not None:
        shown.append(started(Wish(form.second.body), shown[0]))
    state[PANELS] = shown
    st.rerun()
if form.problems != drawn_for.problems:
    st.rerun()

wish, wished_at = None, 0
with output:
    if not panels:
        draw_nothing_yet(account_view.error)
    if waiting and not any(view is not None and view.blocks_generating for view in views.values()):
        draw_wait(services.runs, account.username)
    if panels:
        shown_texts = [found(texts, panel) for panel in panels]
        looks = [(panel, views[panel]) for panel in panels]
        output_panels(
            services.runs,
            [
                text if view is None else Panel(panel, view)
                for (panel, view), text in zip(looks, shown_texts, strict=True)
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
    others = [panel for number, panel in enumerate(panels) if number != wished_at]
    panels[wished_at] = started(wish, others[0] if others else None)
    state[PANELS] = panels
    st.rerun()
