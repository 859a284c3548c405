"""The pages, run by Streamlit itself without a browser: what each person sees and may do."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from tests.support.fake_api import Behaviour, Refusal
from tests.support.web_pages import (
    button,
    captions,
    field,
    generate,
    labels,
    log_in,
    open_app,
    press,
    until,
)
from tests.support.web_parts import PASSWORD
from web import browser_session
from web.sessions import TICKET_SECONDS

pytestmark = pytest.mark.usefixtures("parts")


def test_a_stranger_sees_the_login_form_and_nothing_else():
    """No page, no sidebar, no name."""
    app = open_app()
    assert [field.label for field in app.text_input] == ["Username", "Password"]
    assert labels(app) == ["Login"]


@pytest.mark.parametrize(
    ("name", "password"), [("ada", "wrong"), ("nobody", PASSWORD), ("", ""), ("ada", "x" * 99)]
)
def test_a_failed_login_is_told_in_one_sentence(name, password):
    """The same for every cause."""
    app = log_in(name, password)
    assert [error.value for error in app.error] == ["Username or password is not right."]
    assert labels(app) == ["Login"]


def test_too_many_attempts_are_told_with_a_time_even_for_the_right_password():
    """The sixth attempt is not looked at."""
    app = open_app()
    for password in [*["wrong"] * 5, PASSWORD]:
        app.text_input[0].set_value("ada")
        app.text_input[1].set_value(password)
        press(app, "Login")
    assert app.error[0].value.startswith("Too many attempts. Try again in ")
    assert labels(app) == ["Login"]


def test_a_logged_in_person_has_the_named_inputs_and_buttons():
    """The names that tests and notes rely on."""
    app = log_in()
    fields = [*app.text_area, *app.text_input, *app.number_input]
    assert [field.label for field in fields] == [
        "Prompt",
        "Seed",
        "Temperature",
        "Number of characters",
        "Top k",
        "Top p",
    ]
    assert {"Generate Text", "Stop", "Test Connection", "Logout"} <= set(labels(app))
    assert app.title[0].value == "Custom GPT Model"


def test_a_generation_shows_its_text_literally_and_how_it_ended(fake_api):
    """Model text with Markdown and HTML in it is text."""
    fake_api.behaviour = Behaviour(text="# <b>bold</b> ![x](http://x/y.png) $a$ :red[b]\n")
    app = log_in()
    app.text_area[0].set_value("Once")
    app.text_input[0].set_value("42")
    app.number_input[1].set_value(47)
    generate(app)
    assert [code.value for code in app.code] == [fake_api.behaviour.text]
    assert "finished · 47 of 47 characters" in captions(app)
    assert "seed 42" in captions(app)
    assert any("seed\u00a042 · temperature\u00a00.8" in told.value for told in app.caption)
    assert fake_api.generations()[0].body == {
        "prompt": "Once",
        "seed": 42,
        "temperature": 0.8,
        "num_chars": 47,
        "stream": True,
    }


def test_stop_keeps_the_text_and_says_so(fake_api):
    """What had come stays on the page, and the API sees the person go."""
    fake_api.behaviour = Behaviour(stall_after_events=3)
    app = press(log_in(), "Generate Text")
    until(app, lambda app: app.code)
    assert button(app, "Generate Text").disabled
    press(app, "Stop")
    assert app.code[0].value == fake_api.behaviour.text[:30]
    assert "stopped · 30 of 200 characters" in captions(app)
    assert f"seed {fake_api.generations()[0].body['seed']}" in captions(app)
    assert "cost about 30" in captions(app)
    assert not button(app, "Generate Text").disabled
    until(app, lambda _: fake_api.disconnects == 1)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Refusal(403, "missing_scope"), "does not allow this"),
        (Refusal(503, "overloaded"), "The generator is busy"),
        (Refusal(503, "model_loading"), "still being loaded"),
        (Refusal(500, "internal_error"), "failed inside the API"),
    ],
)
def test_a_refusal_is_told_in_one_plain_sentence_with_its_reference(fake_api, refusal, words):
    """One can read what happened and name it to an administrator."""
    fake_api.behaviour = Behaviour(refusal=refusal)
    app = generate(log_in())
    assert [words in error.value for error in app.error] == [True]
    assert "Reference 0f5c9d3a" in captions(app)


def test_an_api_that_is_away_is_told_before_and_after_generating(fake_api):
    """The page opens all the same, and its buttons work."""
    fake_api.close()
    app = log_in()
    assert "cannot be reached" in app.error[0].value
    assert "cannot be reached" in generate(app).error[0].value


def test_a_429_disables_generating_until_its_time_is_over(fake_api):
    """The countdown is told, and afterwards one can generate again."""
    fake_api.behaviour = Behaviour(refusal=Refusal(429, "rate_limited", 1))
    app = log_in()
    press(app, "Generate Text")
    until(app, lambda app: app.warning)
    assert "Try again in 1 s." in app.warning[0].value
    assert button(app, "Generate Text").disabled
    until(app, lambda app: not button(app, "Generate Text").disabled)
    fake_api.behaviour = Behaviour()
    assert generate(app).code


def test_a_422_is_told_beside_its_field(fake_api):
    """The message stands under the input that it is about, as plain text."""
    errors = [{"field": "seed", "message": "not *this* one"}]
    fake_api.behaviour = Behaviour(refusal=Refusal(422, "invalid_request", errors=errors))
    app = generate(log_in())
    assert {error.value for error in app.error} == {
        "not &#42;this&#42; one",
        "Please look at the marked field.",
    }
    app.text_input[0].set_value("7").run()  # corrected: nothing is wrong with what stands there now
    assert not app.error
    assert "This was refused. Seed" in captions(app)


def test_a_value_that_cannot_be_is_told_at_once():
    """Not by a red border: in a sentence beside its field, and nothing is sent."""
    app = log_in()
    app.number_input[0].set_value(5.0).run()
    assert [error.value.startswith("A number from 0 to 2") for error in app.error] == [True]
    assert "Please mend: Temperature." in captions(app)
    assert next(group for group in app.button_group if group.label == "Preset").value is None
    press(app, "Generate Text")
    assert not app.code
    app.number_input[0].set_value(1.0).run()
    assert not app.error


def test_a_reload_does_not_forget_how_long_to_wait(fake_api):
    """Another tab of the same person counts down too and cannot ask; another person can."""
    fake_api.behaviour = Behaviour(refusal=Refusal(429, "rate_limited", 60))
    generate(log_in())
    again = log_in()
    assert "Your plan's rate is used up for the moment. Try again in " in again.warning[0].value
    assert button(again, "Generate Text").disabled
    assert not button(log_in("root"), "Generate Text").disabled


def test_what_is_wrong_at_once_is_not_even_sent(fake_api):
    """A seed that is none is told at its field."""
    app = log_in()
    app.text_input[0].set_value("forty-two")
    press(app, "Generate Text")
    assert "whole number" in app.error[0].value
    assert fake_api.generations() == []
    app.text_input[0].set_value("42")
    assert generate(app).code


def test_logout_shows_the_form_and_a_copied_token_stays_dead():
    """Another tab with the same login is logged out at its next action."""
    app, copy = log_in(), open_app()
    copy.session_state["_session_token"] = app.session_state["_session_token"]
    assert "Generate Text" in labels(copy.run())
    press(app, "Logout")
    assert labels(app) == ["Login"]
    assert labels(copy.run()) == ["Login"]


def test_a_tab_leaves_by_itself_when_its_session_ended_elsewhere(parts, monkeypatch):
    """What looks again every few seconds draws the login form; nothing has to be pressed."""
    app = log_in()
    session, _ = parts.desk.recognise(app.session_state["_session_token"])
    looks = []
    look = browser_session.require

    def ended_meanwhile(services):
        if not looks:
            looks.append(services.sessions.end(session))
        return look(services)

    monkeypatch.setattr(browser_session, "require", ended_meanwhile)
    assert labels(app.run()) == ["Login"]


def test_a_login_in_a_tab_shows_nothing_of_the_one_before(parts):
    """That one ended elsewhere: its form, texts and connection test are another person's."""
    app = log_in()
    field(app, "Prompt").set_value("ada's own words")
    field(app, "Seed").set_value("777")
    generate(app)
    press(app, "Test Connection")
    ended = parts.sessions.read(app.session_state["_session_token"])
    key = field(app, "Prompt").key
    parts.sessions.end(ended)
    app.run()
    app.text_input[0].set_value("root")
    app.text_input[1].set_value(PASSWORD)
    press(app, "Login")
    assert [field(app, name).value for name in ("Prompt", "Seed")] == ["", ""]
    assert field(app, "Prompt").key != key  # what a browser still holds of it counts for nothing
    assert not app.code
    assert "Reachable" not in " ".join(one.value for one in app.markdown)
    assert button(app, "Keep").disabled  # the seed of the last text


@pytest.mark.parametrize("page", ["usage", "my_key"])
def test_a_cookie_is_on_its_way_from_a_page_that_stops_halfway(fake_api, page):
    """Who lands there after the login stays logged in after a reload too."""
    fake_api.close()
    app = log_in()
    app.switch_page(f"app_pages/{page}.py").run()
    assert not app.exception
    assert app.error
    assert _pending_calls(app) == ["/session/start"]


def test_a_ticket_that_came_too_late_is_issued_anew(parts, monkeypatch):
    """A browser that was slow gets its cookie at the next action; one that was not asks once."""
    app = log_in()
    first = app.session_state["_pending_call"]["ticket"]
    late = time.time() + TICKET_SECONDS
    monkeypatch.setattr(parts.sessions, "_clock", lambda: late)
    app.run()
    second = app.session_state["_pending_call"]["ticket"]
    assert parts.sessions.redeem(first) is None
    assert parts.sessions.redeem(second) is not None
    late += TICKET_SECONDS
    assert app.run().session_state["_pending_call"]["ticket"] == second


def test_strangers_do_not_keep_a_person_out_of_the_browser_they_use(parts):
    """After a login there, what others use up counts nothing in it."""
    app = press(log_in(), "Logout")
    for n in range(60):
        parts.desk._throttle.admit("ada", f"192.0.2.{n}")
    elsewhere = log_in()
    assert elsewhere.error[0].value.startswith("Too many attempts. Try again in ")
    app.text_input[0].set_value("ada")
    app.text_input[1].set_value(PASSWORD)
    assert "Generate Text" in labels(press(app, "Login"))


def test_the_wait_is_told_as_it_goes_by(parts, monkeypatch):
    """A minute later the sentence says a minute less, and at the end it is gone."""
    for _ in range(5):
        parts.desk._throttle.admit("ada", "local")
    app = log_in()
    told = int(app.error[0].value.split()[-2])
    ends = app.session_state["login_wait_ends"]
    app.session_state["login_wait_ends"] = ends - 60
    assert told - 62 <= int(app.run().error[0].value.split()[-2]) <= told - 60
    app.session_state["login_wait_ends"] = ends - 600
    assert not app.run().error


def _pending_calls(app):
    """Return what the browser is asked to post."""
    shown = [one.proto.body for one in app.main.get("html")]
    return re.findall(r'data-quillgate-call="([^"]*)"', "".join(shown))


def test_logout_ends_the_generation(fake_api):
    """Nothing is written on for someone who has left."""
    fake_api.behaviour = Behaviour(stall_after_events=1)
    app = press(log_in(), "Generate Text")
    until(app, lambda app: app.code)
    press(app, "Logout")
    until(app, lambda _: fake_api.disconnects == 1)


def test_a_disabled_person_is_out_at_the_next_action(users, parts):
    """The store's word counts, not the login's."""
    app = log_in()
    users.accounts["ada"] = replace(users.accounts["ada"], disabled=True)
    parts.accounts.refresh()
    assert labels(app.run()) == ["Login"]


def test_test_connection_tells_each_step(fake_api):
    """What works and what was seen, in the sidebar."""
    app = press(log_in(), "Test Connection")
    shown = " ".join(element.value for element in app.sidebar.markdown)
    for words in ("Reachable", "Key accepted", "Model", "demo"):
        assert words in shown


def test_no_page_shows_or_keeps_the_key(users, fake_api, parts):
    """Not in any element, the session's state or what is kept of a visit, after generating too."""
    app = generate(log_in())
    press(app, "Test Connection")
    for page in ("app_pages/usage.py", "app_pages/my_key.py", "app_pages/generate.py"):
        app.switch_page(page).run()
        assert not app.exception
        assert users.key not in str(app)
    state = app.session_state._state.filtered_state
    assert state["panels"]
    assert users.key not in repr(app.session_state._state._state)
    session, _ = parts.desk.recognise(state["_session_token"])
    visit = repr(parts.visits.of(session))
    assert "Shall I compare" in visit
    assert users.key not in visit
    # Nothing that is kept leads to a key either: plain values and what Test Connection saw.
    kept = {type(value) for value in state.values()}
    assert kept <= {str, int, float, bool, dict, list, type(None)}


def test_my_key_says_what_the_key_may(fake_api):
    """Name, plan, scopes and expiry of one's own key."""
    app = log_in().switch_page("app_pages/my_key.py").run()
    shown = " ".join(element.value for element in app.markdown)
    for words in ("standard", "acme", "never", "7kTq2mXw9ZpA"):
        assert words in shown


def test_usage_and_key_pages_survive_an_api_that_is_away(fake_api):
    """One sentence, no exception."""
    fake_api.close()
    for page in ("app_pages/my_key.py", "app_pages/usage.py"):
        app = log_in().switch_page(page).run()
        assert not app.exception
        assert "cannot be reached" in app.error[0].value


USED = {
    "from": "2026-11-20",
    "to": "2026-11-23",
    "items": [{"day": "2026-11-21", "chars": 7000, "requests": 3, "refused": 1}],
    "total": {"chars": 7000, "requests": 3, "refused": 1},
}


def test_usage_shows_what_is_left_and_what_was_used(fake_api):
    """Limits as bars, days as a chart, sums as numbers."""
    fake_api.answers["GET /v1/usage"] = USED
    app = log_in().switch_page("app_pages/usage.py").run()
    assert not app.exception
    assert [(metric.label, metric.value) for metric in app.metric] == [
        ("Characters", "7,000"),
        ("Generations", "3"),
        ("Refused", "1"),
    ]
