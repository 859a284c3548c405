"""The API over HTTP, on the standard library's client so that a stream can be cut at any moment.

Every call is bounded: connecting 5 s, the first byte of an answer 60 s (an instance may be
starting), then 15 s of silence (the API sends at least a comment every 5 s). Whatever goes wrong
is an ApiError; nothing is retried here. A key is only ever put into the X-API-Key header.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from web.sse import Event, read_events

MAX_BODY_BYTES = 1 << 20
_SENDABLE_KEY = re.compile(r"[!-~]{1,256}")  # visible ASCII: what a header may carry


@dataclass(eq=False)
class ApiError(Exception):
    """A call that did not succeed. `status` is 0 where no answer came.

    `code` is one of contract section 4, or one of ours: unreachable (no answer at all), stalled
    (silence), interrupted (the answer broke off), bad_answer (not the API's language), no_key.
    """

    code: str
    status: int = 0
    detail: str = ""
    retry_after_seconds: float | None = None
    fields: Mapping[str, str] = field(default_factory=dict)  # field of the request -> message
    request_id: str = ""

    def __str__(self) -> str:
        return f"{self.code} ({self.status})"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each part of a call may take, in seconds."""

    connect: float = 5.0
    first_byte: float = 60.0
    silence: float = 15.0
    short_answer: float = 10.0  # a call that generates nothing
    glance: float = 3.0  # the same, while a page waits to be drawn


class ApiClient:
    """Where the API is, and how patiently to speak to it."""

    def __init__(self, base_url: str, timeouts: Timeouts | None = None) -> None:
        self._url: SplitResult = urlsplit(base_url)
        self._timeouts = timeouts or Timeouts()
        self._tls = ssl.create_default_context() if self._url.scheme == "https" else None

    def get(self, path: str) -> Any:
        """Return the JSON of a GET that needs no key."""
        return self.call("GET", path)

    def call(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        glance: bool = False,
    ) -> Any:
        """Return the JSON that a call answers with at once; a glance waits less."""
        target = path + ("?" + urlencode(query) if query else "")
        headers, payload = _headers(key), None
        if body is not None:
            headers["Content-Type"] = "application/json"
            payload = _payload(body)
        patience = self._timeouts.glance if glance else self._timeouts.short_answer
        call = ApiCall(self._connection(patience))
        with call.told_as_api_errors():
            response = call.send(
                method, target, headers, payload, min(patience, self._timeouts.connect)
            )
            answer = response.read(MAX_BODY_BYTES + 1)
        if response.status != 200:
            raise _refusal(response, answer)
        return _parsed(answer)

    def generation(self) -> GenerationCall:
        """Return a streamed generation that is not sent yet, so that it can be closed early."""
        return GenerationCall(self._connection(self._timeouts.first_byte), self._timeouts)

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._tls is not None:
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=timeout)


class ApiCall:
    """One request on a connection of its own, which any thread may close."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None
        self._closed = False

    def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        connect_timeout: float,
    ) -> http.client.HTTPResponse:
        """Send the request and return the answer's head."""
        answer_timeout = self._connection.timeout
        self._connection.timeout = connect_timeout
        self._connection.connect()
        with self._lock:
            self._socket = self._connection.sock
            if self._closed:
                raise ConnectionAbortedError("closed before it was sent")
        self._connection.sock.settimeout(answer_timeout)
        self._connection.request(method, target, body, dict(headers))
        self._response = self._connection.getresponse()
        return self._response

    def be_patient_for(self, seconds: float) -> None:
        """Bound every further wait for bytes."""
        if self._socket is not None:
            self._socket.settimeout(seconds)

    @contextlib.contextmanager
    def told_as_api_errors(self) -> Iterator[None]:
        """Turn what the network can do into ApiErrors, and let go of the connection at the end."""
        try:
            yield
        except TimeoutError as exc:
            raise ApiError("unreachable" if self._socket is None else "stalled") from exc
        except (OSError, ValueError, http.client.HTTPException) as exc:
            # ValueError: another thread closed what was being read.
            raise ApiError("unreachable" if self._response is None else "interrupted") from exc
        finally:
            self.close()
            if self._response is not None:
                self._response.close()
            self._connection.close()

    def close(self) -> None:
        """Cut the connection; a thread that waits for its bytes wakes at once. Idempotent."""
        with self._lock:
            self._closed = True
            held = self._socket
        if held is not None:
            with contextlib.suppress(OSError):
                # The plain socket's shutdown, below TLS: it asks for nobody's cooperation.
                socket.socket.shutdown(held, socket.SHUT_RDWR)
            held.close()


class GenerationCall(ApiCall):
    """POST /generate as a stream of events."""

    def __init__(self, connection: http.client.HTTPConnection, timeouts: Timeouts) -> None:
        super().__init__(connection)
        self._timeouts = timeouts

    def events(self, key: str, body: Mapping[str, Any]) -> Iterator[Event]:
        """Send the request, then yield `text` events and lastly the one `done` event.

        The first step sends. An `error` event, like every refusal, is raised as an ApiError.
        """
        headers = _headers(key) | {
            "Accept": "text/event-stream",
            "Content-Type": "application/json",
        }
        payload = _payload(body)
        with self.told_as_api_errors():
            response = self.send("POST", "/generate", headers, payload, self._timeouts.connect)
            if response.status != 200:
                raise _refusal(response, response.read(MAX_BODY_BYTES))
            if response.headers.get_content_type() != "text/event-stream":
                raise ApiError("bad_answer", response.status)
            self.be_patient_for(self._timeouts.silence)
            for event in read_events(_lines(response)):
                if event.name == "error":
                    raise _problem(_parsed(event.data.encode()), response)
                if event.name in ("text", "done"):
                    yield event
                if event.name == "done":
                    return
        raise ApiError("interrupted")


def _lines(response: http.client.HTTPResponse) -> Iterator[str]:
    while line := response.readline(MAX_BODY_BYTES):
        yield line.decode("utf-8", errors="replace")


def _payload(body: Mapping[str, Any]) -> bytes:
    # As UTF-8 and not escaped: the longest prompt that is allowed must fit into the API's 16 KiB.
    return json.dumps(dict(body), ensure_ascii=False).encode()


def _headers(key: str | None) -> dict[str, str]:
    headers = {"User-Agent": "quillgate-web", "Accept": "application/json"}
    if key is None:
        return headers
    if not _SENDABLE_KEY.fullmatch(key):
        # http.client would refuse it too, with an error that quotes the key.
        raise ApiError("no_key")
    return headers | {"X-API-Key": key}


def _parsed(body: bytes) -> Any:
    if len(body) > MAX_BODY_BYTES:
        raise ApiError("bad_answer")
    try:
        return json.loads(body)
    except ValueError as exc:
        raise ApiError("bad_answer") from exc


def _refusal(response: http.client.HTTPResponse, body: bytes) -> ApiError:
    try:
        return _problem(json.loads(body), response)
    except ValueError:
        return _problem({}, response)


def _problem(document: Any, response: http.client.HTTPResponse) -> ApiError:
    """Read an RFC 9457 problem; whatever of it is missing or of another type is left empty."""
    problem = document if isinstance(document, dict) else {}
    status = problem.get("status", response.status)
    errors = problem.get("errors")
    return ApiError(
        code=str(problem.get("code") or "bad_answer"),
        status=status if isinstance(status, int) else response.status,
        detail=str(problem.get("detail") or ""),
        retry_after_seconds=_retry_after(response, problem),
        fields={
            str(entry.get("field")): str(entry.get("message"))
            for entry in (errors if isinstance(errors, list) else [])
            if isinstance(entry, dict)
        },
        request_id=str(problem.get("request_id") or response.headers.get("X-Request-Id") or ""),
    )


def _retry_after(response: http.client.HTTPResponse, problem: Mapping[str, Any]) -> float | None:
    milliseconds = response.headers.get("retry-after-ms")
    for text, unit in ((milliseconds, 1000.0), (response.headers.get("Retry-After"), 1.0)):
        if text and text.isdigit():
            return int(text) / unit
    in_event = problem.get("retry_after")
    return float(in_event) if isinstance(in_event, int | float) else None
