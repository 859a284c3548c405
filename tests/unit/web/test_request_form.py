"""What a person typed is checked before it is sent, whatever the browser let through."""

import pytest

from web.request_form import MAX_PROMPT_CHARS, MAX_SEED, check_form, continued

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


def test_an_empty_prompt_is_left_to_the_api_and_an_empty_seed_is_drawn():
    """The page can show which seed it was; two draws differ."""
    drawn = {check_form(**GOOD | {"prompt": "", "seed": "  "}).body["seed"] for _ in range(5)}
    assert len(drawn) > 1
    assert all(0 <= seed <= MAX_SEED for seed in drawn)
    assert "prompt" not in check_form(**GOOD | {"prompt": ""}).body


def test_sampling_settings_are_sent_only_when_they_are_set():
    """Empty means all characters, which is the API's default."""
    assert "top_k" not in check_form(**GOOD).body
    body = check_form(**GOOD, top_k=5, top_p=0.9).body
    assert (body["top_k"], body["top_p"]) == (5, 0.9)


def test_writing_on_gives_the_model_the_end_of_all_that_is_there():
    """The prompt is what a prompt may hold of the earlier prompt and its text."""
    body = {"prompt": "ab", "seed": 1, "num_chars": 5, "stream": True}
    assert continued(body, "cd", 7) == {**body, "prompt": "abcd", "seed": 7}
    long = continued(body, "x" * MAX_PROMPT_CHARS, 7)["prompt"]
    assert long == "x" * MAX_PROMPT_CHARS


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
        ("top_k", 0),
        ("top_k", 1.5),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", float("nan")),
    ],
)
def test_a_value_out_of_range_is_told_at_its_field_and_nothing_is_sent(field, value):
    """The person sees which field and what it takes."""
    form = check_form(**GOOD | {field: value})
    assert list(form.problems) == [field]
    assert form.body == {}
