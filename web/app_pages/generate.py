"""Custom GPT Model: give a beginning, watch the text come, stop it when it is enough."""

import streamlit as st

from web import browser_session
from web.output_panel import output_panel
from web.request_form import LARGEST_NUM_CHARS, MAX_PROMPT_CHARS, check_form
from web.sentences import beside_fields, plain
from web.services import installed

RUN = "run_id"
PROBLEMS = "form_problems"

services = installed()
session, account = browser_session.require(services)
view = services.runs.view(st.session_state.get(RUN))
account_view = services.account_views.of(account.username)
largest = account_view.max_num_chars or LARGEST_NUM_CHARS

running = view is not None and view.running
waiting = view is not None and view.blocks_generating
problems = st.session_state.get(PROBLEMS) or beside_fields(view.error if view else None)


def show_problem(field: str) -> None:
    """Say beside a field what is wrong with it."""
    if field in problems:
        st.error(plain(problems[field]))


st.title("Custom GPT Model")
settings, output = st.columns([5, 6], gap="medium")

with settings:
    prompt = st.text_area(
        "Prompt",
        key="prompt",
        persist_state="session",
        height=160,
        max_chars=MAX_PROMPT_CHARS,
        placeholder="Write a beginning, or leave it empty to let the model begin.",
    )
    show_problem("prompt")
    seed = st.text_input(
        "Seed",
        key="seed",
        persist_state="session",
        placeholder="random",
        help="The same seed with the same settings gives the same text. Empty: a random one.",
    )
    show_problem("seed")
    left, right = st.columns(2)
    with left:
        temperature = st.number_input(
            "Temperature",
            key="temperature",
            persist_state="session",
            min_value=0.0,
            max_value=2.0,
            value=0.8,
            step=0.1,
            format="%.2f",
            help="0 always takes the likeliest character; higher is bolder.",
        )
        show_problem("temperature")
    with right:
        num_chars = st.number_input(
            "Number of characters",
            key="num_chars",
            persist_state="session",
            min_value=1,
            max_value=largest,
            value=min(200, largest),
            step=50,
            help=f"How many to write, at most {largest:,}.",
        )
        show_problem("num_chars")
    generate_at, stop_at = st.columns([2, 1])
    generate = generate_at.button(
        "Generate Text",
        type="primary",
        width="stretch",
        shortcut="Ctrl+Enter",
        disabled=running or waiting,
    )
    stop = stop_at.button("Stop", width="stretch", shortcut="Esc", disabled=not running)

if stop:
    services.runs.stop(st.session_state.get(RUN))
    st.rerun()
if generate and not running and not waiting:
    form = check_form(
        prompt=prompt,
        seed=seed,
        temperature=temperature,
        num_chars=num_chars,
        max_num_chars=largest,
    )
    st.session_state[PROBLEMS] = dict(form.problems)
    if not form.problems:
        st.session_state[RUN] = services.runs.start(
            username=account.username,
            tab=browser_session.tab_id(),
            login_id=session.login_id,
            body=form.body,
        )
    st.rerun()

with output:
    output_panel(services.runs, st.session_state.get(RUN), view, account_view.error)
