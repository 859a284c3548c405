"""Reading server-sent events."""

from hypothesis import given
from hypothesis import strategies as st

from web.sse import Event, read_events


def test_an_event_is_dispatched_at_the_blank_line_and_comments_are_not():
    """Names and data are read as sent; a heartbeat or an opening comment yields nothing."""
    lines = [": open", "", "event: text", 'data: {"text": "a"}', "", ": waiting", "", "data:x", ""]
    assert list(read_events(lines)) == [Event("text", '{"text": "a"}'), Event("message", "x")]


def test_several_data_lines_are_joined_by_line_ends():
    """An event's data may span lines."""
    assert list(read_events(["data: a", "data:", "data:  b", ""])) == [Event("message", "a\n\n b")]


def test_an_event_that_the_end_cut_off_is_not_dispatched():
    """Half an event is none."""
    assert list(read_events(["event: done", "data: {}"])) == []


def test_line_ends_of_every_kind_are_accepted():
    """CRLF and LF streams read the same."""
    assert list(read_events(["data: a\r\n", "\r\n"])) == [Event("message", "a")]


@given(st.lists(st.text(st.characters(blacklist_characters="\r\n")), max_size=20))
def test_no_input_breaks_the_reader(lines):
    """Whatever a server sends, reading ends without an error."""
    for event in read_events(lines):
        assert event.name
