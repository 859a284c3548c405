"""Log lines: one event each, Google's field names, and never a key."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from api.telemetry import Metrics, blot
from auth.api_key import mint

PROGRAM = """
import logging, sys, structlog
from api.telemetry import configure_logging
configure_logging(sys.argv[1])
key = sys.argv[2]
log = structlog.get_logger()
log.info("event one", note="line\\nbreak", key=key)
logging.getLogger("some.library").warning("library says %s", key)
secret_local = key
try:
    raise ValueError("went wrong")
except ValueError:
    log.exception("event two")
"""


def lines(log_format: str, key: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, log_format, key],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_json_lines_have_googles_fields():
    """Each event is one line with severity, message and time; a library's record is one too."""
    key = mint("live").reveal()
    events = [json.loads(line) for line in lines("json", key)]
    messages = [event["message"] for event in events]
    assert messages == ["event one", "library says [key]", "event two"]
    assert [event["severity"] for event in events] == ["INFO", "WARNING", "ERROR"]
    assert all(event["time"].endswith("Z") for event in events)
    assert "ValueError: went wrong" in events[2]["exception"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_log_that_cannot_be_written_fails_nothing(log_format):
    """A full disk under the log, or a reader of it that went away, costs lines alone."""
    program = (
        "import sys\n"
        "class Full:\n"
        "    def write(self, text): raise OSError(28, 'No space left on device')\n"
        "    flush = lambda self: self.write('')\n"
        f"sys.stdout = Full()\n{PROGRAM}\n"
        "import os; os._exit(0)"  # as the service does
    )
    done = subprocess.run(
        [sys.executable, "-c", program, log_format, "key"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_key_is_ever_in_a_line(log_format):
    """Whatever is logged, by whom, a key is blotted out; tracebacks show no local variables."""
    key = mint("live").reveal()
    text = "\n".join(lines(log_format, key))
    assert key not in text
    assert key.split("_")[3] not in text
    assert "[key]" in text


def test_blotting_keeps_the_rest():
    """Only the key goes; also one that was cut short."""
    key = mint("test").reveal()
    assert blot(f"a {key} b") == "a [key] b"
    assert blot(f"a {key[:40]} b") == "a [key] b"
    assert blot("qg_nothing here") == "qg_nothing here"


def test_metrics_are_of_one_process():
    """Two apps in one process share no metric."""
    one, two = Metrics(), Metrics()
    one.requests.labels(route="/", status=200).inc()
    assert one.registry.get_sample_value(
        "quillgate_requests_total", {"route": "/", "status": "200"}
    )
    assert not two.registry.get_sample_value(
        "quillgate_requests_total", {"route": "/", "status": "200"}
    )
