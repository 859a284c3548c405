"""Speaking to the API: every way it can go wrong is an ApiError, and no way is for ever."""

import json
import socket
import threading

import pytest

from tests.support.fake_api import Behaviour, Refusal
from tests.support.waiting import wait_until
from web.api_client import ApiClient, ApiError, Timeouts

QUICK = Timeouts(connect=1.0, first_byte=1.0, silence=0.3, short_answer=1.0)
BODY = {"num_chars": 100, "stream": True}


@pytest.fixture
def api(fake_api):
    return ApiClient(fake_api.url, QUICK)


def _text(events):
    return "".join(json.loads(event.data)["text"] for event in events if event.name == "text")


def _error(call):
    with pytest.raises(ApiError) as error:
        list(call)
    return error.value


def test_a_generation_is_read_to_its_one_done_event(api, fake_api):
    """All text comes, in order, and the last event tells how it ended."""
    events = list(api.generation().events("a-key", BODY))
    assert _text(events) == (fake_api.behaviour.text * 2)[:100]
    assert events[-1].name == "done"
    assert json.loads(events[-1].data)["finish_reason"] == "length"


def test_the_key_travels_in_its_header_and_nowhere_else(api, fake_api):
    """Neither the request line, nor another header, nor the body holds it."""
    list(api.generation().events("qg-canary", BODY))
    api.call("GET", "/v1/key", key="qg-canary")
    for call in fake_api.calls:
        assert call.key == "qg-canary"
        assert call.head.count("qg-canary") == 1
        assert "qg-canary" not in json.dumps(call.body)


@pytest.mark.parametrize("key", ["", "line\nbreak", "with space", "ü", "x" * 300])
def test_a_key_that_no_header_can_carry_is_not_sent_and_not_quoted(api, fake_api, key):
    """A damaged key is told as none; its text is in no error."""
    error = _error(api.generation().events(key, BODY))
    assert error.code == "no_key"
    assert not key or key not in str(error) + repr(error)
    assert fake_api.calls == []


def test_a_refusal_says_what_the_problem_document_says(api, fake_api):
    """Status, code, fields, reference and the wait come through."""
    fake_api.behaviour = Behaviour(
        refusal=Refusal(429, "rate_limited", 7, "d", [{"field": "num_chars", "message": "m"}])
    )
    error = _error(api.generation().events("k", BODY))
    assert (error.status, error.code, error.detail) == (429, "rate_limited", "d")
    assert error.fields == {"num_chars": "m"}
    assert error.retry_after_seconds == 7.0
    assert error.request_id == "0f5c9d3a"


def test_an_error_event_is_raised_after_the_text_before_it(api, fake_api):
    """A generation that fails in the middle leaves what had come."""
    fake_api.behaviour = Behaviour(error_event={"status": 503, "code": "draining"})
    seen = []
    with pytest.raises(ApiError) as error:
        seen.extend(api.generation().events("k", BODY))
    assert (error.value.code, error.value.status) == ("draining", 503)


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (Behaviour(stall_after_events=2), "stalled"),
        (Behaviour(break_after_events=2), "interrupted"),
    ],
)
def test_a_stream_that_goes_silent_or_breaks_off_is_told_as_such(api, fake_api, behaviour, code):
    """Neither is mistaken for an end."""
    fake_api.behaviour = behaviour
    assert _error(api.generation().events("k", BODY)).code == code


def test_nobody_at_the_address_is_unreachable():
    """A refused connection is told as such."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        api = ApiClient(url, QUICK)
        assert _error(api.generation().events("k", BODY)).code == "unreachable"
        with pytest.raises(ApiError, match="unreachable"):
            api.get("/health")


def test_a_server_that_accepts_and_says_nothing_is_stalled():
    """The wait for the first byte is bounded."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        api = ApiClient(f"http://127.0.0.1:{mute.getsockname()[1]}", Timeouts(1, 0.2, 0.2, 0.2))
        assert _error(api.generation().events("k", BODY)).code == "stalled"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\n[1,2]",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: error\ndata: [\n\n",
    ],
)
def test_what_is_not_the_api_is_told_as_such(answer):
    """A page, a redirect, a proxy's error and broken JSON never pass for text or a key's fault."""
    assert _error(_against(answer)).code == "bad_answer"


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b""])
def test_what_is_not_http_is_unreachable(answer):
    """Nobody who speaks our language is there."""
    assert _error(_against(answer)).code == "unreachable"


def _against(answer):
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        with server, server.accept()[0] as client:
            client.recv(65536)
            client.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    api = ApiClient(f"http://127.0.0.1:{server.getsockname()[1]}", QUICK)
    return api.generation().events("k", BODY)


def test_closing_wakes_a_reader_that_waits_and_the_api_notices(fake_api):
    """Stop does not wait for the API's next word."""
    fake_api.behaviour = Behaviour(stall_after_events=1)
    call = ApiClient(fake_api.url, Timeouts(1, 60, 60, 60)).generation()
    got_text, ended = threading.Event(), threading.Event()

    def read():
        try:
            for _ in call.events("k", BODY):
                got_text.set()
        except ApiError:
            ended.set()

    threading.Thread(target=read, daemon=True).start()
    assert got_text.wait(5)
    call.close()
    assert ended.wait(5)
    wait_until(lambda: fake_api.disconnects == 1)


def test_a_call_that_was_closed_early_is_never_sent(api, fake_api):
    """A Stop before the connection stands leaves no trace at the API."""
    call = api.generation()
    call.close()
    call.close()
    assert _error(call.events("k", BODY)).code == "unreachable"
    assert fake_api.calls == []
