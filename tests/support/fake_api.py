"""A small server that speaks contract section 5, for what a real API does only on bad days.

It refuses, stalls, breaks off and paces on command, and it records who called with what and
which clients went away before the end.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

TEXT = (
    "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\n"
    "Rough winds do shake the darling buds of May,\nAnd summer's lease hath all too short a date;\n"
)


@dataclass
class Refusal:
    """A problem+json answer."""

    status: int
    code: str
    retry_after: int | None = None
    detail: str = ""
    errors: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Behaviour:
    """How the next generations go."""

    refusal: Refusal | None = None
    text: str = TEXT  # repeated to the length asked for
    chars_per_event: int = 10
    seconds_between_events: float = 0.0
    stall_after_events: int | None = None  # then silence, without a comment
    break_after_events: int | None = None  # then the connection closes
    error_event: dict[str, Any] | None = None  # instead of `done`


@dataclass(frozen=True)
class Call:
    """One request as it arrived."""

    method: str
    path: str
    key: str | None
    body: dict[str, Any]
    head: str


class FakeApi:
    """The server and what it saw."""

    def __init__(self) -> None:
        self.counting = threading.Lock()
        self.reset()
        api = self

        class Handler(_Handler):
            server_api = api

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """Do again as if nobody had told it anything."""
        self.behaviour = Behaviour()
        self.accepted_keys: set[str] | None = None  # None: any
        self.account: dict[str, Any] = account()
        self.answers: dict[str, Any] = {}  # "GET /path", ?query and all -> a document, or a Refusal
        self.calls: list[Call] = []
        self.answering = threading.Event()  # while it is not set, a prepared change waits
        self.answering.set()
        self.disconnects = 0
        self.finished = 0

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def generations(self) -> list[Call]:
        return [call for call in self.calls if call.path == "/generate"]


def account(**changes: Any) -> dict[str, Any]:
    """Return what GET /v1/key answers."""
    limits = [
        ("requests_per_minute", 60, 58, 2.0, 60),
        ("chars_per_minute", 60_000, 41_200, 18.8, 60),
        ("chars_per_day", 1_000_000, 815_400, 40_000.0, 86_400),
        ("chars_per_month", 20_000_000, 17_950_000, 900_000.0, 2_592_000),
        ("concurrency", 4, 4, 0.0, 0),
    ]
    names = ("name", "limit", "remaining", "reset_seconds", "window_seconds")
    return {
        "key_id": "7kTq2mXw9ZpA",
        "name": "ada's key",
        "tenant": "acme",
        "plan": "standard",
        "max_num_chars": 10_000,
        "scopes": ["generate", "key:rotate", "usage:read"],
        "label": "live",
        "created_at": 1_760_000_000,
        "expires_at": None,
        "allowed_cidrs": [],
        "limits": [dict(zip(names, limit, strict=True)) for limit in limits],
        "rotation": None,
        **changes,
    }


class _Handler(BaseHTTPRequestHandler):
    server_api: FakeApi
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        api = self._record({})
        if self.path == "/health":
            self._json(200, {"status": "ok", "version": "0.1.0", "model": "demo"})
        elif not self._key_is_good():
            self._refuse(Refusal(401, "invalid_key"))
        elif self.path == "/v1/key":
            self._json(200, api.account)
        else:
            self._prepared(api)

    def do_PATCH(self) -> None:
        self.do_POST()

    def do_DELETE(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        api = self._record(body)
        behaviour = api.behaviour
        if not self._key_is_good():
            self._refuse(Refusal(401, "invalid_key"))
        elif self.path != "/generate":
            self._prepared(api)
        elif behaviour.refusal is not None:
            self._refuse(behaviour.refusal)
        elif body.get("stream"):
            self._stream(behaviour, body)
        else:
            text = "".join(_pieces(behaviour, body["num_chars"]))
            self._json(200, {"text": text, **_summary(body)})

    def _record(self, body: dict[str, Any]) -> FakeApi:
        key = self.headers.get("X-API-Key")
        head = f"{self.requestline}\n{self.headers}"
        self.server_api.calls.append(Call(self.command, self.path, key, body, head))
        return self.server_api

    def _prepared(self, api: FakeApi) -> None:
        path = self.path.partition("?")[0]
        prepared = api.answers.get(f"{self.command} {path}", Refusal(404, "not_found"))
        answer = api.answers.get(f"{self.command} {self.path}", prepared)
        if self.command != "GET":
            api.answering.wait(30)
        if isinstance(answer, Refusal):
            self._refuse(answer)
        else:
            self._json(200, answer)

    def _key_is_good(self) -> bool:
        accepted = self.server_api.accepted_keys
        return accepted is None or self.headers.get("X-API-Key") in accepted

    def _refuse(self, refusal: Refusal) -> None:
        problem: dict[str, Any] = {
            "type": f"/docs#{refusal.code}",
            "title": refusal.code,
            "status": refusal.status,
            "detail": refusal.detail,
            "code": refusal.code,
            "request_id": "0f5c9d3a",
        }
        if refusal.errors:
            problem["errors"] = refusal.errors
        headers = {"Content-Type": "application/problem+json"}
        if refusal.retry_after is not None:
            headers |= {
                "Retry-After": str(refusal.retry_after),
                "retry-after-ms": str(refusal.retry_after * 1000),
            }
        self._json(refusal.status, problem, headers)

    def _json(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        headers = {"Content-Type": "application/json"} | (headers or {})
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, behaviour: Behaviour, body: dict[str, Any]) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            self._write(b": open\n\n")
            for number, piece in enumerate(_pieces(behaviour, body["num_chars"]), start=1):
                self._event("text", {"text": piece})
                if behaviour.break_after_events == number:
                    return
                if behaviour.stall_after_events == number:
                    self._wait_for_disconnect()
                    return
                if behaviour.seconds_between_events:
                    time.sleep(behaviour.seconds_between_events)
            if behaviour.error_event is not None:
                self._event("error", behaviour.error_event)
                return
            self._event("done", _summary(body))
            with self.server_api.counting:
                self.server_api.finished += 1
        except OSError:
            self.server_api.disconnects += 1

    def _wait_for_disconnect(self) -> None:
        self.connection.settimeout(60)
        if self.connection.recv(1) == b"":
            self.server_api.disconnects += 1

    def _event(self, name: str, data: Any) -> None:
        self._write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())

    def _write(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()


def _pieces(behaviour: Behaviour, num_chars: int) -> Iterator[str]:
    text = (behaviour.text * (num_chars // len(behaviour.text) + 1))[:num_chars]
    step = behaviour.chars_per_event
    return (text[at : at + step] for at in range(0, len(text), step))


def _summary(body: dict[str, Any]) -> dict[str, Any]:
    num_chars = body["num_chars"]
    return {
        "id": "gen_1",
        "model": "demo",
        "seed": body.get("seed", 1234567),
        "temperature": body.get("temperature", 0.8),
        "num_chars": num_chars,
        "finish_reason": "length",
        "usage": {
            "prompt_chars": len(body.get("prompt", "")),
            "generated_chars": num_chars,
            "charged_chars": num_chars,
        },
        "timing_ms": {"queued": 0, "first_char": 5, "total": 100},
    }


@pytest.fixture
def fake_api() -> Iterator[FakeApi]:
    """Yield an API that does as it is told."""
    api = FakeApi()
    yield api
    api.close()
