"""Stop strings and length: the answer for n characters is always a prefix of that for more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.gpt.request import FinishReason
from api.gpt.transcript import Transcript

texts = st.text("ab", max_size=40)
stops = st.lists(st.text("ab", min_size=1, max_size=5), max_size=4)


def answer(text, num_chars, stop, sizes=(1,)):
    """Push a text in pieces; return what came out and how it finished."""
    transcript, released, i = Transcript(num_chars, stop), "", 0
    while i < len(text) and transcript.finish_reason is None:
        size = sizes[i % len(sizes)]
        released += transcript.push(text[i : i + size])
        i += size
    assert len(released) == transcript.released
    return released, transcript.finish_reason


def first_stop(text, stop):
    """Where the first stop string to be completed begins, the longest of equals; brute force."""
    for end in range(1, len(text) + 1):
        begins = [end - len(s) for s in stop if text[:end].endswith(s)]
        if begins:
            return min(begins)
    return None


@given(texts, stops, st.integers(1, 30), st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_the_answer_is_what_comes_before_the_first_stop(text, stop, num_chars, sizes):
    """The answer is T[:min(n, s)] whatever pieces T comes in; the reason says which it was."""
    released, reason = answer(text, num_chars, stop, sizes)
    begin = first_stop(text, stop)
    if reason is None:
        assert text[:num_chars].startswith(released)
        assert len(text) < num_chars + max((len(s) for s in stop), default=0)
    else:
        assert released == text[: num_chars if begin is None else min(num_chars, begin)]
        stopped = begin is not None and begin < num_chars
        assert reason is (FinishReason.STOP if stopped else FinishReason.LENGTH)


@given(texts, stops, st.integers(1, 30), st.integers(0, 30))
def test_less_is_a_prefix_of_more(text, stop, num_chars, more):
    """What is released for n characters, at any moment, begins what is released for more."""
    less, _ = answer(text, num_chars, stop)
    assert answer(text, num_chars + more, stop)[0].startswith(less)


def test_what_may_begin_a_stop_string_is_held_back():
    """A reader never sees a part of a stop string, and sees the rest once it is decided."""
    transcript = Transcript(20, ["END."])
    assert [transcript.push(piece) for piece in ("sO", "E", "N", "x", "EN", "D", ".")] == [
        "sO", "", "", "ENx", "", "", "",
    ]  # fmt: skip
    assert transcript.finish_reason is FinishReason.STOP


def test_a_stop_string_is_sought_across_the_length():
    """At n characters the end is looked for a little longer, so that the answer cannot shrink."""
    assert answer("abcSTOPxyz", 5, ["STOP"]) == ("abc", FinishReason.STOP)
    assert answer("abcSTxyzab", 5, ["STOP"]) == ("abcST", FinishReason.LENGTH)
    assert answer("abcSTOPxyz", 3, ["STOP"]) == ("abc", FinishReason.LENGTH)


def test_an_empty_stop_string_is_refused():
    """An empty stop string would end every answer before it begins."""
    with pytest.raises(ValueError, match="at least 1 character"):
        Transcript(5, [""])
