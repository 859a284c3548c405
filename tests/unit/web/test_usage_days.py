"""Usage by day has no gaps, and what is not an answer is none."""

from datetime import date

from web.usage_days import usage_days

ANSWER = {
    "from": "2026-11-20",
    "to": "2026-11-23",
    "items": [{"day": "2026-11-21", "chars": 700, "requests": 3, "refused": 1}],
    "total": {"chars": 700, "requests": 3, "refused": 1},
}


def test_every_day_is_there_also_those_without_use():
    """A chart of it tells time truly."""
    found = usage_days(ANSWER)
    assert found.days == [date(2026, 11, day) for day in (20, 21, 22, 23)]
    assert found.chars == [0, 700, 0, 0]
    assert (found.total_chars, found.total_requests, found.total_refused) == (700, 3, 1)


def test_what_is_no_answer_is_none():
    """Odd documents do not break the page."""
    for odd in (None, [], {}, ANSWER | {"from": "x"}, ANSWER | {"items": [{}]}):
        assert usage_days(odd) is None
    assert len(usage_days(ANSWER | {"from": "0001-01-01"}).days) == 400
