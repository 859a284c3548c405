"""A second click: one change, and its answer is not lost with the run that the click ended."""

from __future__ import annotations

import threading

import pytest

from tests.support.waiting import wait_until
from web.once import Once


def test_a_second_click_gets_the_answer_of_the_first():
    """While the change is made, and for a moment after; then it is a wish of its own."""
    once, made, going_on = Once(0.1), [], threading.Event()

    def issue():
        going_on.wait(10)
        made.append(f"key {len(made)}")
        return made[-1]

    answers = []
    clicks = [
        threading.Thread(target=lambda: answers.append(once.do("tab", "issue", issue)))
        for _ in "12"
    ]
    for click in clicks:
        click.start()
    going_on.set()
    for click in clicks:
        click.join(10)
    assert answers == ["key 0", "key 0"]
    assert once.do("tab", "rotate", lambda: "another") == "another"
    wait_until(lambda: not once._changes)  # no answer is held for longer
    assert once.do("tab", "issue", issue) == "key 1"


def test_the_same_change_after_another_is_a_wish_of_its_own():
    """As a rotation that was cancelled at once; other tabs' changes are nothing to it."""
    once, made = Once(), []
    for tab, what in (("a", "rotate"), ("b", "rotate"), ("a", "rotate"), ("a", "cancel")):
        once.do(tab, what, lambda change=(tab, what): made.append(change))
    once.do("a", "rotate", lambda: made.append("again"))
    assert made == [("a", "rotate"), ("b", "rotate"), ("a", "cancel"), "again"]


def test_what_failed_is_tried_again():
    """Nothing was made: the next click is not told yesterday's refusal."""
    once = Once()
    with pytest.raises(ZeroDivisionError):
        once.do("tab", "issue", lambda: 1 / 0)
    assert once.do("tab", "issue", lambda: "key") == "key"
