"""Sessions end by time, by logout, and with the password they began; a ticket works once."""

import json

import pytest
from itsdangerous import URLSafeSerializer

from tests.support.web_parts import Clock
from web.sessions import LIFETIME_SECONDS, TICKET_SECONDS, Sessions, cookie_name, is_https

KEY = "k" * 40


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(clock, tmp_path):
    return Sessions(KEY, ended_file=tmp_path / "ended.json", clock=clock)


def test_a_session_is_read_back_as_it_was_started(sessions, clock):
    """The token says who, until when, and under which password."""
    session = sessions.read(sessions.start("ada", "v1"))
    assert (session.user, session.password_version) == ("ada", "v1")
    assert session.expires_at == clock.now + LIFETIME_SECONDS


def test_a_session_ends_after_eight_hours(sessions, clock):
    """The token is valid to the last second and not at the end."""
    token = sessions.start("ada", "v1")
    clock.now += LIFETIME_SECONDS - 1
    assert sessions.read(token) is not None
    clock.now += 1
    assert sessions.read(token) is None


@pytest.mark.parametrize(
    "forged",
    [
        None,
        "",
        "garbage",
        "a.b",
        b"bytes",
        object(),
        "x" * 5000,
        URLSafeSerializer("another key" * 4, salt="quillgate-session").dumps(
            {"u": "root", "i": "x", "e": 9_999_999_999, "v": "v1"}
        ),
        URLSafeSerializer(KEY, salt="another salt").dumps({"u": "root"}),
    ],
)
def test_what_we_did_not_sign_is_no_session(sessions, forged):
    """Nothing but a token of ours is ever recognised, and nothing raises."""
    assert sessions.read(forged) is None


def test_every_changed_character_breaks_a_token(sessions):
    """No part of a token is unprotected."""
    token = sessions.start("ada", "v1")
    for at in range(len(token)):
        other = "A" if token[at] != "A" else "B"
        changed = sessions.read(token[:at] + other + token[at + 1 :])
        # The last character of unpadded base64 has spare bits: the same bytes, the same session.
        assert changed is None or changed == sessions.read(token)


def test_a_logout_ends_every_copy_also_after_a_restart(sessions, clock, tmp_path):
    """A copied cookie is dead at once, and stays dead in a new process."""
    token, other = sessions.start("ada", "v1"), sessions.start("ada", "v1")
    sessions.end(sessions.read(token))
    assert sessions.read(token) is None
    assert sessions.read(other) is not None
    restarted = Sessions(KEY, ended_file=tmp_path / "ended.json", clock=clock)
    assert restarted.read(token) is None
    assert restarted.read(other) is not None


def test_logouts_of_expired_sessions_are_forgotten(sessions, clock, tmp_path):
    """The list of logouts does not grow for ever."""
    sessions.end(sessions.read(sessions.start("ada", "v1")))
    clock.now += LIFETIME_SECONDS
    last = sessions.read(sessions.start("ada", "v1"))
    sessions.end(last)
    assert list(json.loads((tmp_path / "ended.json").read_text())) == [last.login_id]


def test_the_list_of_logouts_is_private_and_names_nobody(sessions, tmp_path):
    """The file can be read by its owner alone and holds no user."""
    sessions.end(sessions.read(sessions.start("ada", "v1")))
    assert (tmp_path / "ended.json").stat().st_mode & 0o777 == 0o600
    assert "ada" not in (tmp_path / "ended.json").read_text()


def test_an_unwritable_home_costs_no_logout(clock, tmp_path):
    """Where the logout cannot be written down it still holds in this process."""
    sessions = Sessions(KEY, ended_file=tmp_path / "absent" / "ended.json", clock=clock)
    token = sessions.start("ada", "v1")
    sessions.end(sessions.read(token))
    assert sessions.read(token) is None


def test_an_unreadable_list_of_logouts_does_not_stop_the_start(clock, tmp_path):
    """A damaged file is left behind."""
    (tmp_path / "ended.json").write_text("{")
    assert Sessions(KEY, ended_file=tmp_path / "ended.json", clock=clock).read("x") is None


def test_a_ticket_is_redeemed_once_and_soon(sessions, clock):
    """The second redemption, a late one and a made-up one get nothing."""
    token = sessions.start("ada", "v1")
    ticket = sessions.ticket(token)
    session = sessions.read(token)
    assert sessions.redeem(ticket) == (token, session)
    assert sessions.seconds_left(session) == LIFETIME_SECONDS
    assert sessions.redeem(ticket) is None
    late = sessions.ticket(token)
    clock.now += TICKET_SECONDS
    assert sessions.redeem(late) is None
    assert sessions.redeem("made up") is None


def test_a_ticket_of_an_ended_session_is_worthless(sessions):
    """Logging out between ticket and redemption sets no cookie."""
    token = sessions.start("ada", "v1")
    ticket = sessions.ticket(token)
    sessions.end(sessions.read(token))
    assert sessions.redeem(ticket) is None


def test_behind_https_the_cookie_has_a_name_that_no_other_host_can_set():
    """The __Host- prefix is used exactly when the browser spoke TLS."""
    assert cookie_name(https=True) == "__Host-quillgate"
    assert cookie_name(https=False) == "quillgate"
    assert is_https({"x-forwarded-proto": "https, http"})
    assert is_https({}, "wss")
    assert not is_https({"x-forwarded-proto": "http"}, "https")
    assert not is_https({})
