"""Every kind of error has a plain sentence of our own, and foreign text is shown as it is."""

import html
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.api_client import ApiError
from web.sentences import beside_fields, duration, plain, sentence, told_by_api

OURS = ("unreachable", "stalled", "interrupted", "bad_answer", "no_key", "key_unreadable")
CODES = (
    *("invalid_key", "missing_scope", "address_not_allowed", "tenant_disabled"),
    *("invalid_request", "prompt_not_encodable", "body_too_large", "exceeds_plan"),
    *("rate_limited", "quota_exceeded", "too_many_concurrent", "too_many_failures"),
    *("overloaded", "draining", "limiter_unavailable", "model_loading"),
)


def test_each_kind_of_error_has_a_sentence_of_its_own():
    """No two causes are told in the same words, and none is told by its code."""
    told = [sentence(ApiError(code, 400)) for code in (*OURS, *CODES)]
    assert len(set(told)) == len(told)
    assert not any("_" in text for text in told)
    assert all(text.endswith(".") for text in told)


@pytest.mark.parametrize("status", [401, 403, 404, 422, 429, 503])
def test_an_unknown_code_is_told_by_its_status(status):
    """A newer API's code still gives a sentence that fits."""
    assert sentence(ApiError("brand_new", status)) != sentence(ApiError("brand_new", 418))


@pytest.mark.parametrize("status", [200, 401, 403, 404, 422, 502])
def test_a_refusal_that_is_not_the_apis_blames_no_key(status):
    """The 403 of a Cloud Run that asks for an IAM token, the 404 of another service at the address:
    what the API refuses it refuses with a code."""
    assert sentence(ApiError("bad_answer", status)) == sentence(ApiError("bad_answer"))


@pytest.mark.parametrize("status", [429, 503])
def test_a_platform_without_a_free_instance_is_told_as_busy(status):
    """Cloud Run says so in words of its own; no plan's rate is used up then."""
    assert sentence(ApiError("bad_answer", status)) == sentence(ApiError("overloaded", 503))


def test_invalid_values_are_told_beside_their_fields():
    """The API's message lands at the field; what the page does not have stays out."""
    error = ApiError("invalid_request", 422, fields={"seed": "too large", "stream": "wrong"})
    assert beside_fields(error) == {"seed": "too large"}
    assert "prompt" in beside_fields(ApiError("prompt_not_encodable", 422))
    assert "num_chars" in beside_fields(ApiError("exceeds_plan", 422))
    assert beside_fields(ApiError("invalid_request", 400, fields={"seed": "x"})) == {}
    assert beside_fields(None) == {}


def test_waiting_times_are_told_as_people_say_them():
    """A time told is never shorter than the wait."""
    waits = (0.2, 59.1, 119, 121, 7199, 7201, 90_000, 200_000)
    expected = ["1 s", "60 s", "119 s", "3 min", "120 min", "3 h", "25 h", "3 days"]
    assert [duration(seconds) for seconds in waits] == expected


@given(st.text(max_size=80))
def test_escaped_text_reads_the_same_and_holds_no_markup(text):
    """Decoding what is shown gives the words back; no character with a meaning is left bare."""
    shown = plain(text)
    assert html.unescape(shown) == " ".join(text.split()) or "\0" in text or _odd(text)
    assert not re.search(r"[*_`\[\]<>$:!~|\\]", shown)


def _odd(text):
    # HTML decodes some numbers (C1 controls, noncharacters) to others; they show nothing anyway.
    return any(not char.isprintable() for char in text)


def test_long_text_is_cut():
    """An error page of a proxy does not fill the screen."""
    assert len(html.unescape(plain("x" * 10_000))) == 300


def test_pages_show_no_html_and_no_markdown_of_others():
    """Only our own fixed element uses HTML, and no page turns HTML on in Markdown."""
    web = Path(__file__).parents[3] / "web"
    sources = {path.name: path.read_text() for path in web.rglob("*.py")}
    assert [name for name, text in sources.items() if "unsafe_allow_html" in text] == []
    drawn = {name for name, text in sources.items() if "st.html(" in text}
    assert drawn == {"browser_session.py", "streamlit_app.py"}  # a call of our own, and our style
    assert [name for name, text in sources.items() if "write_stream" in text] == []


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ("use `python -m auth users` *there*", "use `python -m auth users` &#42;there&#42;"),
        ("an `odd one", "an odd one"),
        ("``` <b>", " &#60;b&#62;"),
        ("`a` or `b`.", "`a` or `b`."),
    ],
)
def test_a_sentence_of_the_api_shows_its_commands_and_nothing_else_as_markdown(detail, shown):
    """What stands between two backticks is a command; all else is shown as it is."""
    assert told_by_api(ApiError("conflict", status=409, detail=detail)) == shown
