"""Plans: the shipped file says what the contract says, and a wrong value never means unlimited."""

import pytest

from auth.plans import load_plans


def test_the_shipped_plans_are_those_of_the_contract():
    """free, standard and partner carry exactly the published limits."""
    plans = load_plans()
    assert list(plans) == ["free", "standard", "partner"]
    free = plans["free"]
    assert (free.requests_per_minute, free.chars_per_minute) == (10, 5_000)
    assert (free.chars_per_day, free.chars_per_month) == (50_000, 500_000)
    assert (free.concurrency, free.max_num_chars, free.weight) == (1, 1_000, 1)
    assert (plans["standard"].concurrency, plans["partner"].concurrency) == (4, 16)


@pytest.mark.parametrize("value", ["0", "-1", "true", '"10"', "1.5"])
def test_a_wrong_value_stops_the_start(tmp_path, value):
    """A limit that is not a positive integer is refused by name."""
    file = tmp_path / "plans.toml"
    keys = ["requests_per_minute", "chars_per_minute", "chars_per_day", "chars_per_month"]
    keys += ["concurrency", "max_num_chars", "weight"]
    file.write_text("[p]\n" + "\n".join(f"{k} = {value if k == 'weight' else 1}" for k in keys))
    with pytest.raises(ValueError, match=r"p\.weight must be a positive integer"):
        load_plans(file)


def test_an_unknown_setting_is_refused(tmp_path):
    """A misspelt limit is an error, not a limit that silently does not hold."""
    file = tmp_path / "plans.toml"
    file.write_text("[p]\nrequests_per_minut = 1\n")
    with pytest.raises(ValueError, match=r"p\.requests_per_minute is missing"):
        load_plans(file)
