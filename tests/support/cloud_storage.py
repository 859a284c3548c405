"""A bucket for tests: gcp-storage-emulator, behind a relay that notes, holds and cuts answers."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gcp_storage_emulator.server import create_server
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from tests.support.api_server import free_port

BUCKET = "models"
_RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-(\d+)\r\n", re.IGNORECASE)


class Relay:
    """Hands each connection to the emulator and notes what was asked for."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []  # heads
        self.reset()
        threading.Thread(target=self._run, daemon=True).start()

    def reset(self) -> None:
        """Hand on everything as it is, and forget what was asked for."""
        self.requests.clear()
        self.cut_after: Callable[[bytes], int | None] = lambda _head: None  # bytes of the answer
        self.status: int | None = None  # refuse everything with this
        self.before: Callable[[bytes], None] = lambda _head: None  # called before each answer

    def ranges(self, file: str) -> list[tuple[int, int]]:
        """Return the ranges of a file that were asked for."""
        found = [_RANGE.search(head) for head in list(self.requests) if file.encode() in head]
        return [(int(match[1]), int(match[2])) for match in found if match]

    def close(self) -> None:
        self._listener.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(65536)
                if not data:
                    return
                head += data
            self.requests.append(head)
            self.before(head)
            if self.status is not None:
                connection.sendall(b"HTTP/1.0 %d no\r\nContent-Length: 0\r\n\r\n" % self.status)
                return
            left = self.cut_after(head)
            with socket.create_connection(("127.0.0.1", self._to)) as emulator:
                # The emulator speaks HTTP/1.0: it closes after one answer, and so does this.
                emulator.sendall(head)
                while data := emulator.recv(65536):
                    if left is not None:
                        data, left = data[:left], left - len(data)
                    connection.sendall(data)
                    if left is not None and left <= 0:
                        return


class CloudStorage:
    """One bucket, and the relay through which the code under test sees it."""

    def __init__(self) -> None:
        logging.getLogger("gcp_storage_emulator").setLevel(logging.ERROR)
        port = free_port()
        self._server = create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET)
        self._server.start()
        self._own = port
        self.relay = Relay(port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.relay.port}"

    def upload(self, directory: Path, prefix: str) -> str:
        """Put a model directory into the bucket; return its URI."""
        for path in directory.iterdir():
            self.put(f"{prefix}/{path.name}", path.read_bytes())
        return f"gs://{BUCKET}/{prefix}"

    def put(self, name: str, data: bytes) -> None:
        client = Client(
            project="tests",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": f"http://127.0.0.1:{self._own}"},
        )
        client.bucket(BUCKET).blob(name).upload_from_string(data)

    def stop(self) -> None:
        self.relay.close()
        self._server.stop()


@pytest.fixture(scope="session")
def cloud_storage() -> Iterator[CloudStorage]:
    storage = CloudStorage()
    yield storage
    storage.stop()
