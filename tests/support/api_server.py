"""The real service: `python -m api`, real gunicorn with the shipped configuration, a subprocess."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
START_SECONDS = 100.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ApiServer:
    """One process of the service; what it prints is in `log`."""

    def __init__(self, environ: dict[str, str], module: str = "api") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PORT": str(self.port),
            "LOG_FORMAT": "json",
            # A busy test machine is no outage: tests of outages set what they need.
            "REDIS_TIMEOUT_MS": "5000",
            **environ,
        }
        self.lines: list[str] = []
        self._told_to_end = False
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def events(self, message: str) -> list[dict[str, Any]]:
        """Return the log lines with this message."""
        parsed = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [line for line in parsed if line.get("message") == message]

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if self.process.poll() is not None:
                raise AssertionError(f"the API ended before {what}:\n{self.log}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no {what} in {START_SECONDS:.0f} s:\n{self.log}")
            time.sleep(0.02)

    def answers(self, path: str) -> bool:
        try:
            return httpx.get(self.url + path, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self) -> ApiServer:
        self.wait_until(lambda: self.answers("/ready"), "/ready")
        return self

    def post(self, path: str, key: str | None, **fields: Any) -> httpx.Response:
        headers = {} if key is None else {"X-API-Key": key}
        return httpx.post(self.url + path, json=fields, headers=headers, timeout=60)

    def get(self, path: str, key: str | None = None) -> httpx.Response:
        headers = {} if key is None else {"X-API-Key": key}
        return httpx.get(self.url + path, headers=headers, timeout=60)

    def raw(
        self, request: bytes, timeout_seconds: float = 15.0
    ) -> tuple[int, dict[str, str], bytes]:
        """Send bytes as they are; return status, headers (lower case) and body."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_seconds) as sock:
            sock.sendall(request)
            return read_response(sock)

    def terminate(self) -> None:
        if not self._told_to_end:
            self._told_to_end = True
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """End it as an operator would; return its exit status."""
        if self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return self.process.returncode


def read_response(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one response whose length is told."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(65536)
        if not chunk:
            raise AssertionError(f"the connection ended within the headers: {data!r}")
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    while len(body) < int(headers.get("content-length", "0")):
        chunk = sock.recv(65536)
        if not chunk:
            break
        body += chunk
    return int(first.split(" ")[1]), headers, body


@pytest.fixture
def api_server() -> Iterator[Callable[..., ApiServer]]:
    """Start servers with `api_server(NAME=value, ...)`; each is stopped at the end of the test."""
    started: list[ApiServer] = []

    def start(*, module: str = "api", ready: bool = True, **environ: str) -> ApiServer:
        server = ApiServer(environ, module)
        started.append(server)
        return server.wait_ready() if ready else server

    yield start
    for server in started:
        server.stop()
