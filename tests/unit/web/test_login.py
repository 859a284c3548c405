"""Logging in: one message for every failure, few guesses, and sessions that end when they must."""

from dataclasses import replace

import pytest

from tests.support.web_parts import PASSWORD, password_hash
from web.login import WRONG, LoginRefusedError


def _refusal(parts, name, password, address="192.0.2.1"):
    with pytest.raises(LoginRefusedError) as refused:
        parts.desk.log_in(name, password, address)
    return refused.value.message


def test_the_right_password_begins_a_session_of_that_person(parts):
    """Outer spaces around the name do no harm."""
    session, account = parts.desk.recognise(parts.desk.log_in(" ada ", PASSWORD, "192.0.2.1"))
    assert (session.user, account.username) == ("ada", "ada")


def test_every_failure_is_told_in_the_same_words(parts, users):
    """Unknown, wrong, empty, overlong and disabled cannot be told apart."""
    users.accounts["eve"] = replace(users.accounts["ada"], username="eve", disabled=True)
    parts.accounts.refresh()
    told = {
        _refusal(parts, "nobody", PASSWORD),
        _refusal(parts, "ada", "wrong"),
        _refusal(parts, "ada", ""),
        _refusal(parts, "", ""),
        _refusal(parts, "ada", "x" * 100),
        _refusal(parts, "eve", PASSWORD),
    }
    assert told == {WRONG}


def test_a_throttled_attempt_is_refused_even_with_the_right_password(parts):
    """Known and unknown names get the same message, and a success is no oracle meanwhile."""
    for name in ("ada", "nobody"):
        for _ in range(5):
            _refusal(parts, name, "wrong")
        assert _refusal(parts, name, PASSWORD).startswith("Too many attempts. Try again in ")


def test_a_new_password_ends_the_sessions_of_the_old_one(parts, users):
    """Also in tabs that are open."""
    token = parts.desk.log_in("ada", PASSWORD, "192.0.2.1")
    users.accounts["ada"] = replace(users.accounts["ada"], password_hash=password_hash("new one"))
    parts.accounts.refresh()
    assert parts.desk.recognise(token) is None


@pytest.mark.parametrize("how", ["disabled", "removed"])
def test_who_may_no_longer_log_in_is_no_longer_recognised(parts, users, how):
    """Disabling or removing a user ends the sessions."""
    token = parts.desk.log_in("ada", PASSWORD, "192.0.2.1")
    if how == "disabled":
        users.accounts["ada"] = replace(users.accounts["ada"], disabled=True)
    else:
        del users.accounts["ada"]
    parts.accounts.refresh()
    assert parts.desk.recognise(token) is None


def test_roles_are_those_of_now_not_of_the_login(parts, users):
    """A role that is taken away is gone in open sessions too."""
    token = parts.desk.log_in("root", PASSWORD, "192.0.2.1")
    assert parts.desk.recognise(token)[1].roles == {"admin"}
    users.accounts["root"] = replace(users.accounts["root"], roles=frozenset())
    parts.accounts.refresh()
    assert parts.desk.recognise(token)[1].roles == frozenset()
