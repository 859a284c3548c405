"""Passwords are checked by streamlit-authenticator, at one cost for everybody."""

import importlib.metadata

import pytest

from tests.support.web_parts import PASSWORD, password_hash
from web import passwords
from web.passwords import password_matches


def test_the_right_password_matches_and_no_other():
    """Only the very password is right: outer spaces, case and emptiness count."""
    stored = password_hash()
    assert password_matches(PASSWORD, stored, [stored])
    for wrong in ("", " ", PASSWORD + " ", " " + PASSWORD, PASSWORD.upper(), "x"):
        assert not password_matches(wrong, stored, [stored])


def test_a_password_with_outer_spaces_is_that_very_password():
    """Nothing is stripped on the way to the comparison."""
    stored = password_hash(" spaced ")
    assert password_matches(" spaced ", stored, [stored])
    assert not password_matches("spaced", stored, [stored])


@pytest.mark.parametrize("password", ["x" * 73, "ü" * 37, "nul\0byte"])
def test_what_bcrypt_cannot_read_is_wrong_and_no_error(password, capsys):
    """A password that is too long or holds a NUL is refused like any wrong one, silently."""
    stored = password_hash()
    assert password_matches(password, stored, [stored]) is False
    assert capsys.readouterr().out == ""


def test_an_unknown_user_never_matches():
    """Not even the password of the hash that is compared instead."""
    assert password_matches("an unusable password costs the same", None, [password_hash()]) is False


def test_every_attempt_is_exactly_one_comparison_at_the_usual_cost(monkeypatch):
    """Known, unknown, empty and overlong cost the same one bcrypt, at the stored hashes' cost."""
    from streamlit_authenticator import Hasher

    compared = []
    check = Hasher.check_pw

    def counted(password, hashed):
        compared.append(hashed.split("$")[2])
        return check(password, hashed)

    monkeypatch.setattr(Hasher, "check_pw", counted)
    stored = password_hash()
    for attempt, known in ((PASSWORD, stored), ("no", stored), ("no", None), ("", None)):
        password_matches(attempt, known, [stored])
    password_matches("x" * 100, stored, [stored])
    assert compared == ["04"] * 5


def test_without_any_user_an_attempt_costs_what_a_new_hash_would(monkeypatch):
    """The cost is never a tell-tale cheap one, also where there are no users or odd hashes."""
    costs = []
    monkeypatch.setattr(
        passwords, "_nobodys_hash", lambda cost: costs.append(cost) or password_hash()
    )
    password_matches("x", None, [])
    password_matches("x", None, ["not a hash", "$2b$xx$rest"])
    assert costs == [passwords.DEFAULT_COST] * 2


def test_the_checker_is_the_version_that_was_read():
    """The part used is importable but undocumented; a new release must be read before use."""
    assert importlib.metadata.version("streamlit-authenticator") == "0.4.2"
