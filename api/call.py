"""One request, as everything between the socket and its last log line knows it.

Nothing here or behind it asks the web framework who is calling: what a request carries is handed
on as a `Call`, so the same guards serve Flask's routes and the front's short road (front.py).
"""

from __future__ import annotations

import re
from typing import Any

from flask import request

from api import trace_context
from api.access import Access
from api.errors import ProblemError
from api.ids import unique
from api.parts import Service
from auth.failures import UNKNOWN
from auth.principal import Principal

CALL = "quillgate.call"  # environ: the Call

# An inbound id is kept when it cannot hurt a log line or a header.
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}(%[0-9A-Za-z]{1,15})?")
_WITH_PORT = re.compile(r"([0-9.]{7,15}):[0-9]{1,5}|\[([^\]]+)\](?::[0-9]{1,5})?")


class Call:
    """A request on its way through the guards; `principal` is set once its key was checked."""

    __slots__ = (
        "_address",
        "_principal",
        "access",
        "body",
        "checked",
        "environ",
        "headers",
        "log_fields",
        "parts",
        "problem",
        "request_id",
        "started",
        "trace",
    )

    def __init__(self, environ: dict[str, Any], parts: Service) -> None:
        inbound = environ.get("HTTP_X_REQUEST_ID")
        known = inbound is not None and _REQUEST_ID.fullmatch(inbound) is not None
        request_id: str = inbound if known else unique(32)  # type: ignore[assignment] # a str where known
        self.environ, self.parts, self.request_id = environ, parts, request_id
        self.started = parts.monotonic()
        self.headers: dict[str, str] = {}  # what goes on the answer, whatever it will be
        self.log_fields: dict[str, Any] = {"request_id": request_id}
        self.trace = trace_context.of(environ)
        if self.trace is not None:
            self.log_fields |= self.trace.log_fields(parts.settings.auth.gcp_project)
        self.access: Access | None = None
        self.body: bytes | None = None  # once it was read
        self.checked = False  # the guards let it pass
        self.problem: ProblemError | None = None  # that it was answered with
        self._principal: Principal | None = None
        self._address: str | None = None

    @property
    def principal(self) -> Principal:
        """Who calls. Raise RuntimeError where no key was checked: a view of ours is wrong."""
        if self._principal is None:
            raise RuntimeError("no key was checked on this route")
        return self._principal

    @principal.setter
    def principal(self, principal: Principal) -> None:
        self._principal = principal

    @property
    def keyed(self) -> bool:
        """Whether `principal` is known."""
        return self._principal is not None

    @property
    def address(self) -> str:
        """The caller's address; ProxyFix has put the trusted hop there.

        Some proxies put the port behind it. Where no proxy stands before us after all, it is
        whatever the caller wrote: a key, perhaps.
        """
        if self._address is None:
            text: str = self.environ.get("REMOTE_ADDR") or ""
            with_port = _WITH_PORT.fullmatch(text)
            if with_port is not None:
                text = with_port[1] or with_port[2]
            self._address = text if _ADDRESS.fullmatch(text) else UNKNOWN
        return self._address


def current_call() -> Call:
    """Return the call that Flask is answering."""
    call: Call = request.environ[CALL]
    return call
