"""Logs tell where something failed and never what a value was."""

import io
import json
import logging

import pytest

from auth.api_key import mint
from web import logs


@pytest.fixture
def stream():
    kept = logging.root.handlers[:], logging.root.level
    stream = io.StringIO()
    yield stream
    logging.root.handlers[:], level = kept
    logging.root.setLevel(level)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exceptions_words_are_not_written(stream, log_format):
    """A message may quote a key; the type and the place are enough."""
    logs.configure(log_format, stream)
    try:
        raise ValueError("canary-in-message")
    except ValueError:
        logging.getLogger("web.test").exception("it failed")
    written = stream.getvalue()
    assert "canary" not in written
    assert "ValueError" in written
    assert "test_logs.py" in written


def test_json_lines_are_one_object_each(stream):
    """A collector can read every line."""
    logs.configure("json", stream)
    logging.getLogger("web.test").warning("two\nlines %s", "here")
    line = json.loads(stream.getvalue())
    assert (line["severity"], line["logger"]) == ("WARNING", "web.test")
    assert line["message"] == "two\nlines here"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_key_that_strays_into_a_line_is_blotted_out(stream, log_format):
    """Whatever path it takes, whole or cut, it is not written."""
    logs.configure(log_format, stream)
    key = mint("live").reveal()
    logging.getLogger("web.test").warning("%s and %s", key, key[:-12])
    assert "[key] and [key]" in stream.getvalue()
    assert key.split("_")[3][:20] not in stream.getvalue()
