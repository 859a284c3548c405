"""What a visit left is found again by its login, by nobody else, and ends with it."""

from __future__ import annotations

import stat

import pytest

from tests.support.web_parts import Clock
from web import visits
from web.sessions import Session
from web.visits import Visits

FIELDS = {"prompt": ["KING:", 2], "temperature": [0.8, 0]}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ended():
    return set()


@pytest.fixture(params=["memory", "files"])
def folder(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "home" / "visits"


@pytest.fixture
def kept(folder, ended, clock):
    return Visits(folder, has_ended=ended.__contains__, clock=clock)


def _login(clock, login_id="login", seconds=100):
    return Session("ada", login_id, int(clock()) + seconds, "version")


def _text(name, chars=10):
    return {"id": name, "before": "", "text": "x" * chars}


def test_a_login_finds_its_own_visit_and_no_other(kept, clock):
    """Fields, what is shown, and the texts, the newest first and numbered."""
    session = _login(clock)
    kept.keep(session, FIELDS, ["a", "b"])
    kept.add_text("login", _text("a"))
    kept.add_text("login", _text("b"))
    visit = kept.of(session)
    assert (visit.fields, visit.shown) == (FIELDS, ["a", "b"])
    assert [(text["id"], text["number"]) for text in visit.texts] == [("b", 2), ("a", 1)]
    stranger = kept.of(_login(clock, "another"))
    assert (stranger.fields, stranger.shown, stranger.texts) == ({}, [], [])


def test_a_logout_ends_it_and_a_text_that_comes_later_does_not_revive_it(
    kept, folder, ended, clock
):
    """Nothing of it is left, in memory or in a file."""
    session = _login(clock)
    kept.keep(session, FIELDS, [])
    ended.add("login")
    kept.end("login")
    kept.add_text("login", _text("late"))
    kept.keep(session, FIELDS, ["late"])
    assert kept.of(session).fields == {}
    assert folder is None or not list(folder.iterdir())


def test_it_ends_with_the_logins_time(kept, folder, clock):
    """The next login that leaves something clears away what is over."""
    kept.keep(_login(clock, "old", 10), FIELDS, [])
    clock.now += 11
    kept.keep(_login(clock, "new"), FIELDS, [])
    assert kept.of(_login(clock, "old")).fields == {}
    assert folder is None or len(list(folder.iterdir())) == 1


def test_another_password_takes_the_visit_along(kept, clock):
    """The person goes on in another login; the old one has nothing."""
    kept.keep(_login(clock), FIELDS, ["a"])
    kept.move("login", _login(clock, "next"))
    assert kept.of(_login(clock, "next")).fields == FIELDS
    assert kept.of(_login(clock)).fields == {}


def test_texts_are_bounded_and_the_newest_stays(kept, clock, monkeypatch):
    """However much is written; the newest even if it alone is too long."""
    monkeypatch.setattr(visits, "MAX_CHARS", 100)
    session = _login(clock)
    kept.keep(session, FIELDS, [])
    for name in ("a", "b", "c"):
        kept.add_text("login", _text(name, 40))
    assert [text["id"] for text in kept.of(session).texts] == ["c", "b"]
    kept.add_text("login", _text("d", 1000))
    assert [text["id"] for text in kept.of(session).texts] == ["d"]
    kept.forget_texts(session)
    assert kept.of(session).texts == []
    assert kept.of(session).fields == FIELDS


def test_memory_is_bounded(clock, monkeypatch):
    """The visits that changed last are kept."""
    monkeypatch.setattr(visits, "REMEMBERED", 2)
    kept = Visits(clock=clock)
    for name in ("a", "b", "c"):
        kept.keep(_login(clock, name), FIELDS, [])
    assert [kept.of(_login(clock, name)).fields for name in ("a", "b", "c")] == [{}, FIELDS, FIELDS]


def test_another_process_finds_it_and_no_other_user_reads_it(tmp_path, clock):
    """Mode 0600 in a folder of mode 0700; without the login's id, which is in the cookie alone, the
    file says nothing of the login and nothing of what was written."""
    folder, session = tmp_path / "visits", _login(clock)
    Visits(folder, clock=clock).keep(session, FIELDS, ["a"])
    assert Visits(folder, clock=clock).of(session).fields == FIELDS
    (written,) = folder.iterdir()
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "login" not in written.name
    assert "KING" not in written.read_text(encoding="utf-8")
    written.replace(folder / _name_of("another", folder, clock))
    assert Visits(folder, clock=clock).of(_login(clock, "another")).fields == {}
    clock.now += 101
    Visits(folder, clock=clock)
    assert not list(folder.iterdir())


def _name_of(login_id, folder, clock):
    """Return the name of a login's file."""
    before = set(folder.iterdir())
    Visits(folder, clock=clock).keep(_login(clock, login_id), FIELDS, [])
    (added,) = set(folder.iterdir()) - before
    return added.name


def test_a_broken_file_or_folder_is_a_visit_that_begins_anew(tmp_path, clock):
    """Nobody is locked out; what cannot be written is kept until the process ends."""
    folder, session = tmp_path / "visits", _login(clock)
    kept = Visits(folder, clock=clock)
    kept.keep(session, FIELDS, [])
    next(folder.iterdir()).write_text("not json", encoding="utf-8")
    assert kept.of(session).fields == {}
    blocked = tmp_path / "a file"
    blocked.write_text("", encoding="utf-8")
    kept = Visits(blocked / "visits", clock=clock)
    kept.keep(session, FIELDS, [])
    assert kept.of(session).fields == FIELDS
