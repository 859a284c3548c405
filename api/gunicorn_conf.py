"""How gunicorn runs the service: one process, a thread for every admitted request and spare ones.

One process because there is one model and one scheduler; more capacity is more instances. Parser
limits are far below the defaults, callers who are slow are cut (worker.py), and shut-down ends
inside the 10 s that Cloud Run gives: 6 s for streams, 1 s to read their end, 1 s for what is owed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from api.config import Settings
from api.worker import Worker

GRACEFUL_SECONDS = 9  # from SIGTERM to SIGKILL of what is left
KEEPALIVE_SECONDS = 5


class ServiceLogger(Logger):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's own lines, in the form of all others; the service writes its own access log."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        if isinstance(sys.exc_info()[1], BlockingIOError):
            self.info("A caller read too slowly and was cut off.")  # SO_SNDTIMEO, not a fault
            return
        super().exception(msg, *args, **kwargs)


def options(settings: Settings) -> dict[str, Any]:
    """Return gunicorn's settings."""
    shared_memory = Path("/dev/shm")  # noqa: S108 - where gunicorn's heartbeat file costs no disk
    return {
        "bind": f"{settings.host}:{settings.port}",
        "workers": 1,
        "worker_class": Worker,
        "threads": settings.threads,
        "worker_connections": 2 * settings.threads + 100,
        "timeout": 0,  # Cloud Run freezes the processor between requests: no heartbeat then
        "graceful_timeout": GRACEFUL_SECONDS,
        "keepalive": KEEPALIVE_SECONDS,
        "preload_app": False,  # torch and gRPC do not survive a fork
        "control_socket_disable": True,
        "worker_tmp_dir": str(shared_memory) if shared_memory.is_dir() else None,
        "limit_request_line": 2048,
        "limit_request_fields": 50,
        "limit_request_field_size": 4096,
        "forwarded_allow_ips": "",  # TRUSTED_PROXY_HOPS alone decides what is believed
        "errorlog": "-",
        "accesslog": None,
        "logger_class": ServiceLogger,
        "proc_name": "quillgate-api",
    }


class ServiceApplication(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    """gunicorn around `make_app`, which runs in the worker, after the fork."""

    def __init__(
        self, settings: Settings, make_app: Callable[[], Flask], on_exit: Callable[[], None]
    ) -> None:
        self._settings, self._make_app, self._on_exit = settings, make_app, on_exit
        super().__init__()

    def load_config(self) -> None:
        for name, value in options(self._settings).items():
            self.cfg.set(name, value)
        self.cfg.set("on_exit", lambda _server: self._on_exit())

    def load(self) -> Flask:
        return self._make_app()
