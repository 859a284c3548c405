"""What stands before a service in production: it tells of TLS and of the client's address.

A proxy that adds the headers a platform's edge adds and passes everything else on, WebSockets too;
before several instances it sends each connection to the next of them.
The browser itself speaks plain HTTP to it: Chromium takes Secure cookies from a loopback address.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator

import pytest


class EdgeProxy:
    """Listens on a port of its own; `client_address` may change between connections."""

    def __init__(self, *target_ports: int) -> None:
        self.client_address = "203.0.113.7"
        self._targets = itertools.cycle(target_ports)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                chunk = client.recv(65536)
                if not chunk:
                    return
                data += chunk
            head, _, rest = data.partition(b"\r\n\r\n")
            with socket.create_connection(("127.0.0.1", next(self._targets))) as server:
                server.sendall(self._rewritten(head) + b"\r\n\r\n" + rest)
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()

    def _rewritten(self, head: bytes) -> bytes:
        first, *lines = head.split(b"\r\n")
        if b"upgrade: websocket" not in head.lower():
            # One request for each connection: only its head is looked at.
            lines = [line for line in lines if not line.lower().startswith(b"connection:")]
            lines.append(b"Connection: close")
        # To the browser this is the edge, and the edge is behind TLS.
        clear, secure = b"origin: http://", b"Origin: https://"
        lines = [
            secure + line[len(clear) :] if line.lower().startswith(clear) else line
            for line in lines
        ]
        address = self.client_address.encode()
        lines += [b"X-Forwarded-Proto: https", b"Fly-Client-IP: " + address]
        return b"\r\n".join([first, *lines])


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def edge_proxy() -> Iterator[Callable[..., EdgeProxy]]:
    """Yield a function that puts an edge before one port or several."""
    started: list[EdgeProxy] = []

    def start(*target_ports: int) -> EdgeProxy:
        started.append(EdgeProxy(*target_ports))
        return started[-1]

    yield start
    for proxy in started:
        proxy.close()
