"""What a person typed is checked before it is sent, whatever the browser let through."""

import pytest

from web.request_form import MAX_SEED, check_form

GOOD = {
    "prompt": "Hello",
    "seed": "42",
    "temperature": 0.8,
    "num_chars": 200,
    "max_num_chars": 1000,
}


def test_a_good_form_is_a_streamed_request():
    """Every field arrives as the contract types it."""
    form = check_form(**GOOD)
    assert form.problems == {}
    assert form.body == {
        "prompt": "Hello",
        "seed": 42,
        "temperature": 0.8,
        "num_chars": 200,
        "stream": True,
    }


def test_what_is_left_empty_is_left_to_the_api():
    """No prompt and no seed are not sent as empty ones."""
    body = check_form(**GOOD | {"prompt": "", "seed": "  "}).body
    assert "prompt" not in body
    assert "seed" not in body


def test_the_whole_range_of_seeds_is_open():
    """The largest seed of the contract keeps every digit."""
    assert check_form(**GOOD | {"seed": str(MAX_SEED)}).body["seed"] == 2**63 - 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", "x" * 4001),
        ("seed", str(MAX_SEED + 1)),
        ("seed", "-1"),
        ("seed", "1.5"),
        ("seed", "²"),
        ("seed", "9" * 30),
        ("seed", "forty-two"),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", float("nan")),
        ("temperature", None),
        ("num_chars", 0),
        ("num_chars", 1001),
        ("num_chars", 1.5),
        ("num_chars", None),
    ],
)
def test_a_value_out_of_range_is_told_at_its_field_and_nothing_is_sent(field, value):
    """The person sees which field and what it takes."""
    form = check_form(**GOOD | {field: value})
    assert list(form.problems) == [field]
    assert form.body == {}
