"""Test Connection tells what works and what does not, step by step."""

from web.api_client import ApiError
from web.connection_test import check_connection


def _checks(parts):
    checks = check_connection(parts.api, parts.user_api, "ada")
    return {check.name: (check.works, check.seen) for check in checks}


def test_when_all_is_well_it_says_so_with_time_and_model(parts):
    """Reachable in how long, with which key, to which model."""
    checks = _checks(parts)
    assert checks["Reachable"][0]
    assert checks["Reachable"][1].endswith(" ms")
    assert checks["Key accepted"] == (True, "ada's key")
    assert checks["Model"] == (True, "demo")


def test_a_refused_key_is_told_while_the_rest_works(parts, fake_api):
    """One can see that it is the key and not the network."""
    fake_api.accepted_keys = set()
    checks = _checks(parts)
    assert checks["Reachable"][0]
    assert checks["Key accepted"] == (
        False,
        "Your API key was refused. Ask your administrator for a new one.",
    )


def test_an_api_that_is_away_leaves_one_sentence(parts, fake_api):
    """Nothing is claimed of a key or model that nobody could ask."""
    fake_api.close()
    checks = _checks(parts)
    assert list(checks) == ["Reachable"]
    assert checks["Reachable"] == (False, "The API cannot be reached. Try again in a minute.")


def test_a_rotated_key_is_read_anew(parts, fake_api, users):
    """The check passes with the key that is stored now."""
    assert _checks(parts)["Key accepted"][0]
    users.key = users.key[:-1] + "Z"
    fake_api.accepted_keys = {users.key}
    assert _checks(parts)["Key accepted"][0]


def test_an_api_that_says_nothing_is_told_without_a_word_of_texts(parts, monkeypatch):
    """Nothing was being written: there is nothing to be kept."""
    for code in ("stalled", "interrupted"):

        def get(_path, error=code):
            raise ApiError(error)

        monkeypatch.setattr(parts.api, "get", get)
        works, seen = _checks(parts)["Reachable"]
        assert not works
        assert "kept" not in seen
        assert seen.endswith("Try again in a minute.")
