"""What can be seen of a request afterwards: its lines, its trace, its span; never what it said."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from tests.support.api_bench import GOOD

MODULE = "tests.support.scripted_server"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PROMPT = "A secret prompt that nobody may read"


@pytest.fixture
def server(api_server, redis_url, otlp_collector):
    return api_server(
        module=MODULE,
        REDIS_URL=redis_url,
        SECONDS_PER_CHAR="0.01",
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp_collector.url,
    )


def stream(server, *, sampled: int = 1, **fields):
    """Read a stream to its end; return its last event, and when its first text and its end came."""
    headers = {"X-API-Key": GOOD, "traceparent": f"00-{TRACE}-{SPAN}-0{sampled}"}
    body = {"prompt": PROMPT, "seed": 0, "stream": True, **fields}
    with httpx.stream("POST", server.url + "/generate", json=body, headers=headers) as answer:
        lines = [(time.time(), line) for line in answer.iter_lines()]
    data = [(moment, line) for moment, line in lines if line.startswith("data: ")]
    return json.loads(data[-1][1][6:]), data[0][0], lines[-1][0]


def test_a_stream_leaves_two_lines_and_one_span(server, otlp_collector):
    """One line when it starts and one when it ends, joined by trace, request, tenant and key.

    The second and the span tell how it went; the span ends when the stream does, not before. None
    of them holds the prompt, the text or the key.
    """
    done, first_text, ended = stream(server, num_chars=100)
    server.wait_until(lambda: bool(server.events("generation.settled")), "settlement")
    [started], [settled] = server.events("generation.started"), server.events("generation.settled")
    for line in (started, settled):
        assert line["generation_id"] == done["id"]
        assert line["logging.googleapis.com/trace"] == TRACE
        assert line["logging.googleapis.com/spanId"] == SPAN
        assert {"request_id", "tenant", "key_id", "severity", "time"} <= set(line)
    assert settled["finish_reason"] == "length"
    assert settled["charged_chars"] == settled["generated_chars"] == 100
    assert settled["first_char"] <= settled["total"]
    assert settled["chars_per_second"] > 0

    otlp_collector.wait_for(lambda: bool(otlp_collector.spans))
    [span] = otlp_collector.spans
    assert (span["service"], span["name"]) == ("quillgate-api", "generate")
    assert (span["trace_id"], span["parent"]) == (TRACE, SPAN)
    assert span["quillgate.generation_id"] == done["id"]
    assert span["quillgate.finish_reason"] == "length"
    assert span["began"] <= span["events"]["admitted"] <= span["events"]["first_char"]
    # The stream's terminal event is written after the settlement that the span ends with.
    assert first_text < span["ended"] <= ended + 0.1
    seen = (server.log + otlp_collector.raw.decode("latin-1")).lower()
    for hidden in (PROMPT, GOOD):
        assert hidden.lower() not in seen


def test_what_waits_is_handed_over_at_the_end(server, otlp_collector):
    """A process that is told to end sends its last spans first; a trace not kept is not sent."""
    stream(server, num_chars=5, sampled=0)
    stream(server, num_chars=5)
    assert server.stop() == 0
    assert [span["quillgate.generated_chars"] for span in otlp_collector.spans] == [5]


def test_a_collector_that_is_away_fails_no_request(api_server, redis_url):
    """Nobody listens at the endpoint: texts come, and the process ends with status 0."""
    server = api_server(
        module=MODULE, REDIS_URL=redis_url, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9"
    )
    assert server.post("/generate", GOOD, num_chars=10).status_code == 200
    assert server.stop() == 0
