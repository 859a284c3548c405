"""Runs stream in, stop at once keeping their text, and end with their tab or their login."""

import threading

import pytest

from tests.support.fake_api import Behaviour, Refusal
from tests.support.waiting import wait_until
from tests.support.web_parts import Clock
from web.accounts import Accounts
from web.api_client import ApiClient, Timeouts
from web.run import RunState
from web.runs import FORGET_SECONDS, TAB_GRACE_SECONDS, Runs

BODY = {"num_chars": 60, "stream": True}


@pytest.fixture
def clock():
    return Clock(0.0)


@pytest.fixture
def open_tabs():
    return {"tab"}


@pytest.fixture
def runs(fake_api, users, clock, open_tabs):
    api = ApiClient(fake_api.url, Timeouts(1.0, 30.0, 30.0, 1.0))
    made = Runs(api, Accounts(users), tab_is_open=open_tabs.__contains__, clock=clock)
    yield made
    for run in list(made._runs.values()):
        run.stop(0.0)


def _start(runs, body=BODY, tab="tab", login_id="login", **more):
    return runs.start(username="ada", tab=tab, login_id=login_id, body=body, **more)


def _until(runs, run_id, holds):
    for _ in range(1000):
        view = runs.view(run_id)
        if holds(view):
            return view
        threading.Event().wait(0.01)
    raise AssertionError(f"it never came true: {view}")


def test_a_run_ends_with_all_its_text_and_the_apis_summary(runs, fake_api):
    """The text is exactly what was sent."""
    view = _until(runs, _start(runs), lambda v: not v.running)
    assert view.state is RunState.DONE
    assert view.text == fake_api.behaviour.text[:60]
    assert view.summary["finish_reason"] == "length"
    assert view.error is None


def test_the_users_own_key_is_sent(runs, fake_api, users):
    """Each person's generations run on that person's key."""
    _until(runs, _start(runs), lambda v: not v.running)
    assert fake_api.generations()[0].key == users.key


def test_stop_keeps_the_text_and_the_api_sees_the_disconnect_even_when_it_is_silent(runs, fake_api):
    """Stop is immediate for the person and real for the API."""
    fake_api.behaviour = Behaviour(stall_after_events=2)
    run_id = _start(runs)
    _until(runs, run_id, lambda v: len(v.text) == 20)
    runs.stop(run_id)
    view = runs.view(run_id)
    assert (view.state, len(view.text)) == (RunState.STOPPED, 20)
    wait_until(lambda: fake_api.disconnects == 1)
    assert runs.view(run_id).state is RunState.STOPPED


def test_nothing_is_added_after_a_stop(runs, fake_api):
    """Text that was under way does not appear later."""
    fake_api.behaviour = Behaviour(seconds_between_events=0.01)
    run_id = _start(runs)
    _until(runs, run_id, lambda v: v.text)
    runs.stop(run_id)
    text = runs.view(run_id).text
    wait_until(lambda: fake_api.disconnects == 1)
    assert runs.view(run_id).text == text


def test_a_rotated_key_is_read_again_and_the_run_goes_on(runs, fake_api, users):
    """Someone whose key was rotated elsewhere notices nothing."""
    _until(runs, _start(runs), lambda v: not v.running)
    users.key = users.key[:-1] + "Z"
    fake_api.accepted_keys = {users.key}
    view = _until(runs, _start(runs), lambda v: not v.running)
    assert view.state is RunState.DONE
    assert [call.key == users.key for call in fake_api.generations()] == [False, False, True]


def test_a_key_that_stays_refused_is_sent_once(runs, fake_api):
    """The same key is not tried again: refusals count against the address that all share."""
    fake_api.accepted_keys = set()
    view = _until(runs, _start(runs), lambda v: not v.running)
    assert (view.state, view.error.code) == (RunState.FAILED, "invalid_key")
    assert len(fake_api.generations()) == 1


def test_a_refusal_blocks_generating_until_its_time_is_over(runs, fake_api, clock):
    """The wait is counted from the refusal, and only a 429 blocks."""
    fake_api.behaviour = Behaviour(refusal=Refusal(429, "rate_limited", 5))
    run_id = _start(runs)
    view = _until(runs, run_id, lambda v: not v.running)
    assert view.blocks_generating
    assert view.retry_in_seconds == 5
    clock.now += 4.5
    assert runs.view(run_id).retry_in_seconds == 0.5
    clock.now += 0.5
    assert not runs.view(run_id).blocks_generating
    fake_api.behaviour = Behaviour(refusal=Refusal(503, "overloaded", 5))
    view = _until(runs, _start(runs), lambda v: not v.running)
    assert view.retry_in_seconds == 5
    assert not view.blocks_generating


@pytest.mark.parametrize("error_event", [{"status": 503, "code": "draining"}, {"code": 7}, {}])
def test_a_run_that_fails_midway_keeps_its_text(runs, fake_api, error_event):
    """What had come stays, whatever the API says of its failure."""
    fake_api.behaviour = Behaviour(error_event=error_event)
    view = _until(runs, _start(runs), lambda v: not v.running)
    assert view.state is RunState.FAILED
    assert len(view.text) == 60


def test_a_gone_tab_ends_its_run_after_a_few_seconds_and_is_forgotten_later(
    runs, fake_api, clock, open_tabs
):
    """A closed tab stops costing characters; one that only reconnects loses nothing."""
    fake_api.behaviour = Behaviour(stall_after_events=1)
    run_id = _start(runs)
    _until(runs, run_id, lambda v: v.text)
    clock.now += 100
    runs.sweep()
    assert runs.view(run_id).running
    open_tabs.clear()
    clock.now += TAB_GRACE_SECONDS - 0.1
    runs.sweep()
    assert runs.view(run_id).running
    clock.now += 0.1
    runs.sweep()
    assert runs.view(run_id).state is RunState.STOPPED
    wait_until(lambda: fake_api.disconnects == 1)
    clock.now += FORGET_SECONDS
    runs.sweep()
    assert runs.view(run_id) is None


def test_nothing_is_left_of_two_runs_side_by_side_whose_tab_is_gone(
    runs, fake_api, clock, open_tabs
):
    """Both are forgotten, and so is the tab: a process that runs for weeks does not grow."""
    fake_api.behaviour = Behaviour(stall_after_events=1)
    first = _start(runs)
    second = _start(runs, beside=first)
    _until(runs, second, lambda v: v.text)
    open_tabs.clear()
    clock.now += FORGET_SECONDS
    runs.sweep()
    assert [runs.view(first), runs.view(second)] == [None, None]
    assert not runs._tab_seen


def test_a_page_that_was_loaded_anew_keeps_its_run_going(runs, fake_api, clock, open_tabs):
    """The tab of before is gone; the run goes on for as long as the new one is there."""
    fake_api.behaviour = Behaviour(stall_after_events=1)
    run_id = _start(runs)
    _until(runs, run_id, lambda v: v.text)
    open_tabs.clear()
    open_tabs.add("reloaded")
    runs.watch([run_id, "unknown"], "reloaded")
    clock.now += 100
    runs.sweep()
    assert runs.view(run_id).running
    open_tabs.clear()
    clock.now += TAB_GRACE_SECONDS
    runs.sweep()
    assert not runs.view(run_id).running


def test_a_tab_that_begins_anew_leaves_what_another_watches(runs, fake_api, open_tabs):
    """A second tab shows what the first one writes; its own text ends nothing there."""
    fake_api.behaviour = Behaviour(stall_after_events=1)
    shared = _start(runs)
    _until(runs, shared, lambda v: v.text)
    runs.watch([shared], "second tab")
    own = _start(runs, tab="second tab")
    assert runs.view(shared).running
    assert runs.view(own).running
    _start(runs)
    assert runs.view(shared) is None


def test_what_ends_is_told_before_anybody_sees_it_ended(fake_api, users):
    """A page that draws an ended run finds its text among those of the visit; each is told once."""
    told = []

    def at_end(run, view):
        threading.Event().wait(0.1)
        told.append((run.login_id, view.before, view.text, view.state))

    api = ApiClient(fake_api.url, Timeouts(1.0, 30.0, 30.0, 1.0))
    runs = Runs(api, Accounts(users), tab_is_open=lambda _tab: True, at_end=at_end)
    run_id = _start(runs, before="Once ")
    _until(runs, run_id, lambda v: not v.running)
    assert told == [("login", "Once ", fake_api.behaviour.text[:60], RunState.DONE)]
    runs.stop(run_id)
    assert len(told) == 1


def test_a_logout_ends_the_logins_runs_in_every_tab_and_no_other(runs, fake_api):
    """Logging out leaves nothing running in one's name; others write on."""
    fake_api.behaviour = Behaviour(stall_after_events=1)
    ours = [_start(runs, tab=tab) for tab in ("tab", "second tab")]
    other = _start(runs, tab="other", login_id="other login")
    _until(runs, other, lambda v: v.text)
    runs.stop_login("login")
    assert [runs.view(run_id) for run_id in ours] == [None, None]
    assert runs.view(other).running


def test_a_tab_has_one_run_at_a_time(runs, fake_api):
    """Beginning anew ends and forgets what the tab ran before."""
    fake_api.behaviour = Behaviour(stall_after_events=1)
    first = _start(runs)
    _until(runs, first, lambda v: v.text)
    second = _start(runs)
    assert runs.view(first) is None
    assert runs.view(second) is not None
    wait_until(lambda: fake_api.disconnects == 1)


def test_unknown_runs_are_none(runs):
    """A run id of an earlier process shows nothing and stops nothing."""
    runs.stop("unknown")
    runs.stop(None)
    assert runs.view("unknown") is None


def test_the_end_of_the_process_ends_every_run(runs, fake_api, monkeypatch):
    """A web process that is stopped leaves no generation behind at the API."""
    monkeypatch.setattr("web.runs.SWEEP_SECONDS", 0.01)
    fake_api.behaviour = Behaviour(stall_after_events=1)
    run_id = _start(runs)
    _until(runs, run_id, lambda v: v.text)
    stop = threading.Event()
    stop.set()
    runs.keep_swept(stop)
    assert runs.view(run_id).state is RunState.STOPPED
    wait_until(lambda: fake_api.disconnects == 1)


def test_no_run_holds_a_key(runs, users):
    """Looking through a finished run and everything it references finds no key."""
    run_id = _start(runs)
    _until(runs, run_id, lambda v: not v.running)
    run = runs._runs[run_id]
    held = repr({name: getattr(run, name) for name in vars(run)}) + repr(vars(run._call))
    assert users.key not in held


def test_a_429_holds_for_the_person_until_its_time_is_over(runs, fake_api, clock):
    """In every tab and after the run is forgotten, not a moment longer, and for nobody else."""
    fake_api.behaviour = Behaviour(refusal=Refusal(429, "rate_limited", 7))
    _until(runs, _start(runs), lambda v: not v.running)
    runs.stop_login("login")
    clock.now = 3.0
    assert runs.wait_of("ada").seconds == 4.0
    assert runs.wait_of("ada").error.code == "rate_limited"
    assert runs.wait_of("root") is None
    clock.now = 7.0
    assert runs.wait_of("ada") is None


def test_what_is_no_429_lets_one_ask_again_at_once(runs, fake_api):
    """A server that is busy names a time too, which is advice."""
    fake_api.behaviour = Behaviour(refusal=Refusal(503, "overloaded", 7))
    _until(runs, _start(runs), lambda v: not v.running)
    assert runs.wait_of("ada") is None
