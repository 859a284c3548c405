"""Usage by day has no gaps, and what is not an answer is none."""

from datetime import date

from web.usage_days import as_csv, key_rows, month_query, usage_days

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


def test_the_csv_has_every_day_and_adds_up():
    """What a spreadsheet adds is what the page says."""
    lines = as_csv(usage_days(ANSWER)).splitlines()
    assert lines[0] == "day,chars,requests,refused"
    assert [line.split(",")[1] for line in lines[1:]] == ["0", "700", "0", "0"]
    assert lines[2].startswith("2026-11-21,")


def test_keys_are_told_by_name_the_busiest_first():
    """Of the month of the last day; what is no key is left out."""
    items = [
        {"key_id": "A", "name": None, "chars": 1, "requests": 1, "refused": 0},
        {"key_id": "B", "name": "ci", "chars": 9, "requests": 2, "refused": 0},
        {"odd": True},
    ]
    assert [row["Key"] for row in key_rows({"items": items})] == ["ci", "A"]
    assert key_rows(None) == []
    query = month_query(usage_days(ANSWER))
    assert (query["from"], query["to"]) == ("2026-11-01", "2026-11-23")


def test_what_is_no_answer_is_none():
    """Odd documents do not break the page."""
    for odd in (None, [], {}, ANSWER | {"from": "x"}, ANSWER | {"items": [{}]}):
        assert usage_days(odd) is None
    assert len(usage_days(ANSWER | {"from": "0001-01-01"}).days) == 400
