"""The shipped gunicorn and worker under callers and signals that are not nice.

The engine is scripted, so that a generation lasts as long as a test needs; everything from the
socket to the limiter is real.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from api.worker import RECEIVE_SECONDS
from tests.support.api_bench import GOOD
from tests.support.api_server import ApiServer, read_response

MODULE = "tests.support.scripted_server"


@pytest.fixture
def server(api_server, redis_url):
    def start(*, ready: bool = True, **environ: str) -> ApiServer:
        return api_server(module=MODULE, ready=ready, REDIS_URL=redis_url, **environ)

    return start


def request_for(**fields: object) -> bytes:
    body = json.dumps({"seed": 0, **fields}).encode()
    return (
        b"POST /generate HTTP/1.1\r\nHost: x\r\nX-API-Key: " + GOOD.encode() + b"\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )


def send(server: ApiServer, **fields: object) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    sock.sendall(request_for(**fields))
    return sock


def read_until(sock: socket.socket, marker: bytes) -> bytes:
    data = b""
    while marker not in data:
        chunk = sock.recv(65536)
        assert chunk, data
        data += chunk
    return data


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    return data


def test_health_answers_while_the_model_loads(server):
    """/health is up at once; /ready and /generate say that the model is loading."""
    loading = server(ready=False, LOAD_SECONDS="4")
    loading.wait_until(lambda: loading.answers("/health"), "/health")
    ready = loading.get("/ready")
    assert ready.status_code == 503
    assert ready.json()["checks"]["model"] == "loading"
    refused = loading.post("/generate", GOOD, num_chars=1)
    assert (refused.status_code, refused.json()["code"]) == (503, "model_loading")
    assert int(refused.headers["Retry-After"]) >= 1
    loading.wait_ready()
    assert loading.post("/generate", GOOD, num_chars=1).status_code == 200


def test_sigterm_lets_a_short_stream_finish(server):
    """A stream that ends within the grace ends with `done`, and the process with status 0."""
    api = server(SECONDS_PER_CHAR="0.01")
    with send(api, num_chars=150, stream=True) as sock:
        read_until(sock, b"event: text")
        api.terminate()
        assert b"event: done" in read_all(sock)
    assert api.stop() == 0


def test_sigterm_ends_a_long_stream_with_its_terminal_event(server):
    """A stream that would outlive the grace gets one `error` draining; exit 0 in under 10 s."""
    api = server(SECONDS_PER_CHAR="0.05")
    with send(api, num_chars=10_000, stream=True) as sock:
        read_until(sock, b"event: text")
        started = time.monotonic()
        api.terminate()
        rest = read_all(sock)
    assert rest.count(b"event: error") == 1
    assert b'"code": "draining"' in rest
    assert b"event: done" not in rest
    assert api.stop() == 0
    assert time.monotonic() - started < 10
    [line] = api.events("generation.settled")
    assert line["finish_reason"] == "draining"
    assert 0 < line["charged_chars"] < 10_000


def test_a_deploy_breaks_no_answer_that_began(server):
    """Under steady calls through a SIGTERM every stream that began has its last event.

    What is not served any more is refused: 503 draining, or no connection at all.
    """
    api = server(SECONDS_PER_CHAR="0.01")
    whole, refused, ending = [], [], threading.Event()
    body = {"num_chars": 20, "stream": True}

    def call(client):
        with client.stream("POST", "/generate", json=body) as answer:
            if answer.status_code != 200:
                refused.append(json.loads(answer.read())["code"])
                return
            try:
                text = answer.read().decode()
            except httpx.TransportError:
                whole.append(False)
                return
            whole.append("event: done" in text)

    def call_until_the_end():
        with httpx.Client(base_url=api.url, headers={"X-API-Key": GOOD}, timeout=20) as client:
            try:
                while True:
                    call(client)
            except httpx.TransportError:
                assert ending.is_set()

    callers = [threading.Thread(target=call_until_the_end) for _ in range(6)]
    for caller in callers:
        caller.start()
    api.wait_until(lambda: len(whole) >= 12, "the first answers")
    ending.set()
    api.terminate()
    assert api.stop() == 0
    for caller in callers:
        caller.join()
    assert all(whole)
    assert set(refused) <= {"draining"}


def test_while_draining_new_work_is_told_so(server):
    """Until the last stream has ended a new request gets 503 draining and health still answers."""
    api = server(SECONDS_PER_CHAR="0.05")
    with send(api, num_chars=10_000, stream=True) as sock:
        read_until(sock, b"event: text")
        api.terminate()
        api.wait_until(lambda: not api.answers("/ready"), "the drain")
        refused = api.post("/generate", GOOD, num_chars=1)
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
        assert api.get("/health").status_code == 200
        read_all(sock)
    assert api.stop() == 0


def test_nobody_is_let_in_and_then_dropped(server):
    """Until the process is gone each new connection is answered, or refused before it began."""
    api = server(SECONDS_PER_CHAR="0.0008", ALPHABET="\u2028")  # as below: a reader who never reads
    answered, dropped = [], []
    with socket.socket() as unread:
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        unread.connect(("127.0.0.1", api.port))
        unread.sendall(request_for(num_chars=10_000, stream=True))
        api.wait_until(lambda: bool(api.events("generation.started")), "the stream")
        api.process.send_signal(signal.SIGINT)  # the same way out as SIGTERM's, with half a second
        while api.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", api.port), timeout=20) as sock:
                    sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    (answered if read_all(sock) else dropped).append(time.monotonic())
            except ConnectionRefusedError:
                time.sleep(0.01)
            except ConnectionError:
                dropped.append(time.monotonic())
    assert answered
    assert not dropped


def test_a_worker_that_was_ended_alone_is_replaced(server):
    """The listener that it closed to newcomers is opened again by the next one."""
    api = server()
    children = Path(f"/proc/{api.process.pid}/task/{api.process.pid}/children")
    if not children.exists():
        return  # no Linux, and no such closing
    os.kill(int(children.read_text().split()[0]), signal.SIGTERM)
    api.wait_until(lambda: len(api.events("model.loaded")) == 2, "the next worker")
    api.wait_ready()


def test_a_body_cut_by_the_drain_is_told_of_the_drain(server):
    """Who was still sending when the process had to go gets 503 draining, not a 400 of theirs."""
    api = server()
    head, body = request_for(num_chars=1).split(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as sock:
        sock.sendall(head + b"\r\n\r\n" + body[:5])
        time.sleep(0.5)  # until a thread waits for the rest
        api.terminate()
        status, headers, answer = read_response(sock)
    assert (status, json.loads(answer)["code"]) == (503, "draining")
    assert int(headers["retry-after"]) >= 1
    assert api.stop() == 0


def test_a_drain_waits_for_nobody_beyond_its_time(server, redis_url):
    """With a collector of spans that never answers, readers who never read and callers who keep
    their connections, the process still ends by itself: every text is settled and told, in time."""
    with socket.create_server(("127.0.0.1", 0)) as hole, contextlib.ExitStack() as held:
        api = server(
            SECONDS_PER_CHAR="0.0008",  # so that the buffers are full some seconds after SIGTERM
            ALPHABET="\u2028",  # 6 bytes each on the wire
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{hole.getsockname()[1]}",
        )
        kept = held.enter_context(socket.create_connection(("127.0.0.1", api.port)))
        kept.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        read_response(kept)
        for _ in range(3):
            unread = held.enter_context(socket.socket())
            unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            unread.connect(("127.0.0.1", api.port))
            unread.sendall(request_for(num_chars=10_000, stream=True))
        api.wait_until(lambda: len(api.events("generation.started")) == 3, "the streams")
        started = time.monotonic()
        api.terminate()
        assert api.stop() == 0
        assert time.monotonic() - started < 10
    assert len(api.events("generation.settled")) == 3
    assert "Worker exiting" in api.log, "it was killed before it had done all"


def test_callers_who_do_not_hang_up_hold_nobody_up(server):
    """Answers after which the connection ends are over for us, whatever their callers do then."""
    api = server()
    with contextlib.ExitStack() as held:
        for _ in range(20):
            caller = held.enter_context(socket.create_connection(("127.0.0.1", api.port)))
            caller.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        started = time.monotonic()
        assert api.get("/health").status_code == 200
        assert time.monotonic() - started < 10  # 2 s for each of them, when the loop waited


def test_an_answer_before_the_body_was_read_arrives(server):
    """A body that is refused unread does not reset the connection under its answer, and whatever
    it turns out to be there is no second one: that would be taken for the next request's."""
    api = server()
    body = b"x" * 200_000
    head = request_for(num_chars=1).split(b"\r\n\r\n")[0]
    head = re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(body), head)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", api.port), timeout=20) as sock:
            sock.sendall(head + b"\r\n\r\n" + body[:60_000])
            time.sleep(0.1)
            status, _, answer = read_response(sock)
        assert (status, json.loads(answer)["code"]) == (413, "body_too_large")
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as sock:
        sock.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n")
        answers = read_all(sock)
    assert answers.startswith(b"HTTP/1.1 411 ")
    assert answers.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_leaves_stops_the_generation(server, stream):
    """After the connection closed the request is settled, long before its length."""
    api = server(SECONDS_PER_CHAR="0.01")
    with send(api, num_chars=10_000, stream=stream) as sock:
        if stream:
            read_until(sock, b"event: text")
        else:
            time.sleep(0.5)
    api.wait_until(lambda: bool(api.events("generation.settled")), "settlement")
    [line] = api.events("generation.settled")
    assert line["finish_reason"] == "aborted"
    assert line["charged_chars"] < 2000


def test_half_sent_requests_do_not_take_the_service_down(server):
    """With more half-sent heads than threads the service answers again within seconds."""
    api = server(GENERATION_SLOTS="2", QUEUE_LIMIT="2")
    held = []
    for _ in range(40):
        sock = socket.create_connection(("127.0.0.1", api.port), timeout=20)
        sock.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nX-Api")
        held.append(sock)
    assert httpx.get(api.url + "/health", timeout=30).status_code == 200
    for sock in held:
        sock.close()
    assert "Traceback" not in api.log


def test_a_body_that_drips_is_cut(server):
    """A byte now and then for ever does not hold a thread for ever; what came is refused, and what
    still comes of it is not taken for requests."""
    api = server()
    head = request_for(num_chars=1).split(b"\r\n\r\n")[0]
    head = re.sub(rb"Content-Length: \d+", b"Content-Length: 16000", head)

    def drip() -> bytes:
        with socket.create_connection(("127.0.0.1", api.port), timeout=20) as sock:
            sock.sendall(head + b"\r\n\r\n")
            started = time.monotonic()
            with contextlib.suppress(ConnectionError):  # it is closed at last
                while (passed := time.monotonic() - started) < RECEIVE_SECONDS + 0.3:
                    slow = passed < RECEIVE_SECONDS
                    sock.sendall(b" " if slow else b"GET / HTTP/1.1\r\n\r\n")
                    time.sleep(0.1 if slow else 0.0005)
            got = bytearray()
            with contextlib.suppress(ConnectionError):
                while chunk := sock.recv(65536):
                    got += chunk
            return bytes(got)

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(drip) for _ in range(8)]
        time.sleep(RECEIVE_SECONDS + 0.1)
        assert api.answers("/health")  # so that the loop looks now
        for answer in answers:
            got = answer.result()
            assert got.startswith(b"HTTP/1.1 400 ")
            assert b'"bad_request"' in got
            assert got.count(b"HTTP/1.1 ") == 1


def test_a_reader_who_never_reads_is_cut(server):
    """A stream that nobody reads ends within seconds; its slot and its charge come back."""
    api = server(SECONDS_PER_CHAR="0.0001", ALPHABET="\u2028")  # 6 bytes each on the wire
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        sock.connect(("127.0.0.1", api.port))
        sock.sendall(request_for(num_chars=10_000, stream=True))
        api.wait_until(lambda: bool(api.events("generation.settled")), "settlement")
    api.wait_until(lambda: "read too slowly" in api.log, "the reason")
    assert "Traceback" not in api.log


POST = b"POST /generate HTTP/1.1\r\nHost: x\r\n"
MALFORMED = [
    (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 400, "bad_request"),
    (b"\x16\x03\x01 nonsense\r\n\r\n", 400, "bad_request"),
    (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n\r\n", 414, "uri_too_long"),
    (POST + b"X-Long: " + b"a" * 9000 + b"\r\n\r\n", 431, "headers_too_large"),
    (
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, "bad_request"),
    (POST + b"Transfer-Encoding: nonsense\r\n\r\n", 501, "not_implemented"),
]


def test_malformed_http_is_a_problem_too(server):
    """What never became a request is answered in the one shape, and not repeated."""
    api = server()
    for request_bytes, status, code in MALFORMED:
        got, headers, body = api.raw(request_bytes)
        assert (got, json.loads(body)["code"]) == (status, code), request_bytes[:60]
        assert headers["content-type"] == "application/problem+json"
        assert headers["x-request-id"] == json.loads(body)["request_id"]
        assert b"nonsense" not in body
    assert "nonsense" not in api.log
