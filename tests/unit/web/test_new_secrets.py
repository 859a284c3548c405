"""A new key is held for the one tab and login that it was given to, and not for ever."""

from __future__ import annotations

from tests.support.web_parts import Clock
from web.new_secrets import HELD_SECONDS, NewSecret, NewSecrets

OPEN = {"tab", "other", "gone"}.__contains__
KEY, PASSWORD = NewSecret("A key.", "qg_live_made_up"), NewSecret("A password.", "made up")


def test_a_secret_is_for_one_tab_of_one_login():
    """Neither another tab of the same person sees it, nor who logs in next in this one."""
    held = NewSecrets(OPEN, Clock())
    held.keep("tab", "login", KEY)
    held.keep("tab", "login", PASSWORD)
    assert held.of("tab", "login") == [KEY, PASSWORD]
    assert held.of("other", "login") == held.of("tab", "other") == []
    held.put_away(KEY)
    assert held.of("tab", "login") == [PASSWORD]
    held.end("login")
    assert held.of("tab", "login") == []


def test_a_secret_stays_in_the_tab_when_its_login_is_followed_by_another():
    """After a change of the password it is there as before."""
    held = NewSecrets(OPEN, Clock())
    held.keep("tab", "login", KEY)
    held.move("login", "next")
    held.end("login")
    assert held.of("tab", "next") == [KEY]


def test_a_secret_that_nobody_puts_away_is_forgotten():
    """After ten minutes it is in memory no longer."""
    clock = Clock()
    held = NewSecrets(OPEN, clock)
    held.keep("gone", "login", KEY)
    clock.now += HELD_SECONDS
    held.keep("tab", "other", PASSWORD)
    assert held.of("gone", "login") == []
    assert KEY not in [one.new for one in held._held]


def test_no_secret_is_in_a_repr():
    """What is logged of one tells what it is, not what it says."""
    assert "qg_live" not in repr(KEY)


def test_a_tab_that_was_loaded_anew_shows_what_it_was_given():
    """A reload is another tab to us; what an open one holds is its own."""
    open_tabs = {"before", "other"}
    held = NewSecrets(open_tabs.__contains__, Clock())
    held.keep("before", "login", KEY)
    assert held.of("other", "login") == []
    open_tabs.remove("before")
    assert held.of("after", "login") == [KEY]
    assert held.of("after", "another's login") == []


def test_a_secret_that_is_taken_back_is_shown_nowhere():
    """Whoever copied it from another tab would hold a key that opens nothing; others' stay."""
    held = NewSecrets(OPEN, Clock())
    taken_back, other = (NewSecret("A key.", f"qg_live_{one}_made_up") for one in ("one", "two"))
    held.keep("tab", "login", taken_back)
    held.keep("other", "elsewhere", taken_back)
    held.keep("tab", "login", other)
    held.withdraw("one")
    assert held.of("tab", "login") == [other]
    assert held.of("other", "elsewhere") == []
