"""gunicorn's threaded worker, taught six things: to drain, to bound slow callers, to hang up
without waiting for them, to speak problem+json when HTTP itself is malformed, to end on Ctrl-C
without waiting for streams, and to keep the threads that serve on one processor.

Draining: SIGTERM turns new work away (503, the listener stays open so that the answer arrives)
while running streams get `DRAIN_SECONDS` and their last event; only then does gunicorn's own
shut-down begin. Whoever has not read all `LAST_SECONDS` later is cut off, so that what is owed to
Redis and to the collector of spans is told before the process is killed. A caller who sends its
head and body slower than `RECEIVE_SECONDS` altogether is cut off, so half-sent requests cannot hold
the threads.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import struct
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from flask import Flask
from gunicorn.http import errors as http_errors
from gunicorn.workers.gthread import TConn, ThreadWorker

from api.errors import CONTENT_TYPE, ProblemError
from api.guards import RECEIVED
from api.hanging_up import HangingUp
from api.ids import unique
from api.one_processor import OneProcessor
from api.parts import Service

DRAIN_SECONDS = 6.0  # Cloud Run kills 10 s after SIGTERM, gunicorn's master after 9 s
LAST_SECONDS = 1.0  # then: to read the last event, or to hear of the end of a kept connection
INTERRUPT_SECONDS = 0.5
RECEIVE_SECONDS = 5.0  # the whole head and body of one request
# The kernel's wait in one write to a caller who does not read. A piece of an answer takes two or
# three of them: what still fits is taken in part and the rest tried again, so the end comes 10 to
# 15 s after the last byte. The slot does not wait: it is free once 4096 characters are unread.
SEND_SECONDS = 5
SEND_BUFFER_BYTES = 16 * 1024  # what the kernel takes before a write waits for the caller
WHOLE = math.inf  # the deadline of a request that was read to its end
ACCEPT_SECONDS = 5  # until a silent connection is handed over at all

_LINUX_DEFER_ACCEPT = getattr(socket, "TCP_DEFER_ACCEPT", None)  # macOS has none


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """One process of the service."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Until when a request must be read: WHOLE once it was; not in here, it was cut off.
        self._receiving: dict[socket.socket, float] = {}
        self._answering: dict[socket.socket, None] = {}  # what a thread is at work on
        self._hanging_up = HangingUp()
        self._stop_by = math.inf  # on the monotonic clock; kept connections end by then
        self._leaving = False
        self._parts: Service | None = None
        self._processor = OneProcessor()

    def init_process(self) -> None:
        for listener in self.sockets:
            listener.sock.listen(self.cfg.backlog)  # one before this may have refused, see below
            if _LINUX_DEFER_ACCEPT is not None and listener.sock.family != socket.AF_UNIX:
                # A connection is handed over once it has sent something.
                listener.sock.setsockopt(socket.IPPROTO_TCP, _LINUX_DEFER_ACCEPT, ACCEPT_SECONDS)
        super().init_process()  # until the loop has ended
        self._end()

    def _end(self) -> None:
        """Close what must be closed and go, without the interpreter's own clean-up.

        That walks through every object of torch, which on a busy machine takes longer than the
        time to SIGKILL.
        """
        if self._parts is not None:
            self._parts.lifecycle.close()
            self._parts.limiter.close()
            self._parts.tracing.close()
        self.log.info("Worker exiting (pid: %s)", self.pid)
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # a full disk under the log
                stream.flush()
        os._exit(0)

    def load_wsgi(self) -> None:
        app: Flask = self.app.wsgi()
        parts: Service = app.extensions["quillgate"]
        self._parts = parts
        parts.lifecycle.start()
        if parts.settings.metrics_port is not None:
            parts.metrics.serve(parts.settings.host, parts.settings.metrics_port)

        def with_deadline(environ: dict[str, Any], start_response: Any) -> Any:
            connection = environ["gunicorn.socket"]
            environ[RECEIVED] = partial(self._received, connection)
            return app(environ, start_response)

        self.wsgi = with_deadline

    # Draining

    def handle_exit(self, _sig: int, _frame: Any) -> None:
        if not self._leaving:
            self._leave(DRAIN_SECONDS)

    def handle_quit(self, _sig: int, _frame: Any) -> None:
        self._leave(INTERRUPT_SECONDS)

    def _leave(self, seconds: float) -> None:
        """Begin to drain. Runs in a signal handler: hand the waiting to a thread."""
        if self._leaving:
            self.alive = False  # told twice: do not wait
            return
        self._leaving = True
        threading.Thread(target=self._drain, args=(seconds,), name="drain", daemon=True).start()

    def _drain(self, seconds: float) -> None:
        try:
            if self._parts is not None:
                self._parts.lifecycle.drain(seconds)
        finally:
            self._stop_by = time.monotonic() + LAST_SECONDS
            self.alive = False
            self._cut(math.inf)
            self.method_queue.defer(lambda: None)  # wake the loop
            time.sleep(LAST_SECONDS)
            for connection in list(self._answering):
                with contextlib.suppress(OSError):  # it went away by itself
                    connection.shutdown(socket.SHUT_RDWR)  # a write that waits fails now

    def set_accept_enabled(self, enabled: bool) -> None:
        """gunicorn leaves the listener open until it exits, and resets who is in it unheard.

        Who is in it when the drain has ended is answered; who comes later is refused by the
        kernel, before anything was sent: that can be tried again elsewhere, whatever it was.
        """
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        for listener in self.sockets:
            waiting = True
            while waiting:
                before = self.nr_conns
                self.accept(listener)
                waiting = self.nr_conns > before
            with contextlib.suppress(OSError):  # macOS knows no such thing
                listener.sock.shutdown(socket.SHUT_RD)

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(min(deadline, self._stop_by))

    # One processor

    def get_thread_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.cfg.threads, initializer=self._processor.join)

    def run(self) -> None:
        self._processor.join()
        super().run()

    def notify(self) -> None:
        """Tell gunicorn's master nothing: with `timeout` 0 it does not ask."""

    # Slow callers

    def handle(self, conn: TConn) -> Any:
        timeout = struct.pack("ll", SEND_SECONDS, 0)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._receiving[conn.sock] = time.monotonic() + RECEIVE_SECONDS
        self._answering[conn.sock] = None
        try:
            return super().handle(conn)
        finally:
            self._receiving.pop(conn.sock, None)
            self._answering.pop(conn.sock, None)

    def _received(self, connection: socket.socket) -> None:
        if connection in self._receiving:
            self._receiving[connection] = WHOLE

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Whether the next request may come on this connection.

        Not where the rest of a refused one may still come: it would be taken for the next.
        """
        try:
            kept: bool = super()._keepalive_after(conn, keepalive)
        except http_errors.ParseException:  # a chunk that is none; its request has an answer
            return False
        return kept and conn.sock in self._receiving

    def finish_request(self, conn: TConn, fs: Future[Any]) -> None:
        """Keep the connection or close it, in the loop: nothing here may wait for a caller."""
        if fs.cancelled() or fs.exception() is not None or fs.result():
            super().finish_request(conn, fs)
        else:
            self._hanging_up.begin(self.poller, conn.sock, lambda: self._close(conn))
        if not self.alive:
            self._cap_keepalive(self._stop_by)

    def _close(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self) -> None:
        """Runs at least once a second in gunicorn's loop."""
        super().murder_pending()
        self._hanging_up.look(self.poller)
        self._processor.look()
        self._cut(time.monotonic())

    def _cut(self, due_before: float) -> None:
        for connection, deadline in list(self._receiving.items()):
            if deadline < due_before and self._receiving.pop(connection, None) is not None:
                with contextlib.suppress(OSError):  # it went away by itself
                    connection.shutdown(socket.SHUT_RD)  # its thread reads the end and goes on

    # Malformed HTTP

    def handle_error(self, _req: Any, client: socket.socket, _addr: Any, exc: Exception) -> None:
        """Answer what never became a request; what it said is not repeated."""
        if isinstance(exc, BlockingIOError):
            return  # a read or write timed out: there is nobody to tell
        problem = _problem_of(exc)
        if problem.code == "internal_error":
            self.log.error("Error handling request", exc_info=exc)
        else:
            self.log.info("Malformed request: %s", type(exc).__name__)
        request_id = unique(32)
        body = problem.body(request_id)
        head = (
            f"HTTP/1.1 {problem.status} {problem.problem.title}\r\n"
            f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
            f"X-Request-Id: {request_id}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        try:
            client.sendall(head.encode("ascii") + body)
        except OSError:
            self.log.debug("The caller of a malformed request is gone.")


def _problem_of(exc: Exception) -> ProblemError:
    if isinstance(exc, http_errors.LimitRequestLine):
        return ProblemError("uri_too_long")
    if isinstance(exc, http_errors.LimitRequestHeaders):
        return ProblemError("headers_too_large")
    if isinstance(exc, http_errors.UnsupportedTransferCoding):
        return ProblemError("not_implemented")
    if isinstance(exc, http_errors.ParseException):
        return ProblemError("bad_request")
    return ProblemError("internal_error")
