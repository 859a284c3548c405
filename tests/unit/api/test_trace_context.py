"""Trace headers: both forms are understood, and nothing malformed gets anywhere."""

from __future__ import annotations

import pytest

from api.trace_context import TraceContext, read

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_both_forms_name_the_same_trace():
    """W3C's header and Google's, whose span is a decimal number, give one context."""
    ours = TraceContext(TRACE, SPAN, sampled=True)
    assert read(f"00-{TRACE}-{SPAN}-01", "") == ours
    assert read("", f"{TRACE}/{int(SPAN, 16)};o=1") == ours
    assert read(f"00-{TRACE}-{SPAN}-00", f"{'1' * 32}/1;o=1") == TraceContext(TRACE, SPAN, False)
    assert read("", f"{TRACE}/{int(SPAN, 16)}") == TraceContext(TRACE, SPAN, False)


@pytest.mark.parametrize(
    ("traceparent", "cloud"),
    [
        ("", ""),
        (f"00-{'0' * 32}-{SPAN}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE.upper()}-{SPAN}-01", ""),
        (f"00-{TRACE}-{SPAN}-01\n", ""),
        ("", f"{TRACE}/0"),
        ("", f"{TRACE}/{2**64}"),
        ("", f"{TRACE}"),
        ("", '{"trace": "x"}'),
    ],
)
def test_what_is_malformed_is_absent(traceparent, cloud):
    """No header can put anything but hexadecimal digits into a log line."""
    assert read(traceparent, cloud) is None


def test_cloud_logging_finds_the_lines_of_a_trace():
    """The fields are the ones that Google names, with the project where it is known."""
    context = TraceContext(TRACE, SPAN, sampled=True)
    assert context.log_fields("a-project") == {
        "logging.googleapis.com/trace": f"projects/a-project/traces/{TRACE}",
        "logging.googleapis.com/spanId": SPAN,
        "logging.googleapis.com/trace_sampled": True,
    }
    assert context.log_fields(None)["logging.googleapis.com/trace"] == TRACE
