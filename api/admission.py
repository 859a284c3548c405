"""The one place where a request is charged: acquired before the work, settled once after it.

Whatever the limiter says about the caller's keyring is acted on here: a newer keyring than the
one the key was checked against is loaded and the key checked again, so that a revoked or changed
key does not live a request longer. A refusal by the limiter becomes the documented problem.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from email.utils import formatdate

import structlog
from flask import g

from api.errors import ProblemError
from api.guards import address, reauthenticate, refuse_key
from api.idempotency import REPLAYED
from api.limits.headers import response_headers
from api.limits.policy import OF_TENANT, REFUSED, Decision, Lease, Once
from api.parts import Service
from api.telemetry import child
from auth.principal import Principal

# A generation ends by then (finish_reason "deadline"); Cloud Run cuts a request at 300 s.
GENERATION_SECONDS = 280.0
# A lease outlives its request by a little: what a crash left behind comes back after this.
LEASE_SECONDS = 300.0

log = structlog.get_logger()


class Admission:
    """A charge that was made; `settle` gives back what was not used, once."""

    def __init__(
        self, parts: Service, principal: Principal, lease: Lease, decision: Decision
    ) -> None:
        self._parts, self._decision, self._once = parts, decision, threading.Lock()
        self.principal, self.lease, self.seed = principal, lease, decision.seed

    def give_back(self) -> None:
        """Undo the charge: the request was never begun. Its numbers are not told to the caller."""
        for name in (*response_headers(self._decision), REPLAYED):
            g.answer_headers.pop(name, None)
        self.settle(0, REFUSED)

    def settle(self, used_chars: int, finish: str) -> None:
        """Charge `used_chars` of what was reserved. Never raises; later calls do nothing."""
        if not self._once.acquire(blocking=False):
            return
        try:
            self._parts.limiter.settle(self.lease, used_chars=used_chars, finish=finish)
        except Exception:
            # The lease ends by its TTL; the answer to the caller must not hang on it.
            log.exception("settle.failed", lease_id=self.lease.lease_id)


def admit(parts: Service, chars: int, once: Once | None = None) -> Admission:
    """Charge the request to `g.principal`. Raise ProblemError 401, 403, 409, 422, 429 or 503."""
    principal: Principal = g.principal
    decision = _acquire(parts, principal, chars, once)
    current = _give_back_unless_good(parts, principal, decision)
    if current is not principal:
        g.principal = principal = current
        decision = _acquire(parts, principal, chars, once)
    _tell(principal, decision)
    if decision.lease is None:
        raise refusal(parts, principal, decision)
    if decision.seed is not None:
        g.answer_headers[REPLAYED] = "true"
    return Admission(parts, principal, decision.lease, decision)


def account(parts: Service, chars: int = 0, once: Once | None = None) -> Decision:
    """Return what is left to `g.principal`, and what would be said to a request of `chars`.

    Charged to no plan but to a generous rate of its own. Raise ProblemError 401, 403 or 429.
    """
    parts.throttle.count_account_read()
    principal: Principal = g.principal
    decision = parts.limiter.peek(principal, chars=chars, address=address(), once=once)
    current = _current(parts, principal, decision)
    if current is not principal:
        g.principal = principal = current
        decision = parts.limiter.peek(principal, chars=chars, address=address(), once=once)
    _tell(principal, decision)
    if decision.code == "invalid_key":
        raise refusal(parts, principal, decision)
    return decision


def refusal(parts: Service, principal: Principal, decision: Decision) -> ProblemError:
    """Return the problem that says why the limiter refused."""
    if decision.code == "invalid_key":
        return refuse_key(parts, "revoked")
    if decision.code == "exceeds_plan":
        limit = decision.binding or "max_num_chars"
        if limit.startswith(OF_TENANT):
            cap = getattr(principal.caps, limit.removeprefix(OF_TENANT))
            detail = f'The tenant\'s cap "{limit}" is {cap}.'
        else:
            detail = f'The plan\'s "{limit}" is {getattr(principal.plan, limit)}.'
        return ProblemError(
            "exceeds_plan",
            detail,
            headers={"x-should-retry": "false"},
        )
    why = None
    if decision.binding is not None:
        why = f'The limit "{decision.binding}" does not admit this request now.'
    return ProblemError(
        decision.code or "limiter_unavailable", why, retry_after_ms=decision.retry_after_ms
    )


def _acquire(parts: Service, principal: Principal, chars: int, once: Once | None) -> Decision:
    started = parts.monotonic()
    decision = parts.limiter.acquire(
        principal, chars=chars, lease_seconds=LEASE_SECONDS, address=address(), once=once
    )
    parts.metrics.limiter_seconds.observe(parts.monotonic() - started)
    outcome = decision.code or ("local" if decision.lease and decision.lease.local else "allowed")
    child(parts.metrics.decisions, outcome).inc()
    return decision


def _give_back_unless_good(parts: Service, principal: Principal, decision: Decision) -> Principal:
    """As `_current`; a charge made on an outdated record goes back first."""
    try:
        current = _current(parts, principal, decision)
    except ProblemError:
        if decision.lease is not None:
            Admission(parts, principal, decision.lease, decision).give_back()
        raise
    if current is not principal and decision.lease is not None:
        Admission(parts, principal, decision.lease, decision).give_back()
    return current


def _current(parts: Service, principal: Principal, decision: Decision) -> Principal:
    """Return the principal by the current keyring: the very same if nothing of it changed."""
    version = decision.keyring_version
    if version is None:
        return principal  # Redis is away, or was emptied: the keyring sees to itself
    newer = parts.keyring.observe(principal.keyring_shard, version)
    if not newer and version <= principal.keyring_version:
        return principal
    fresh = reauthenticate(parts)
    unchanged = replace(fresh, keyring_version=principal.keyring_version) == principal
    return principal if unchanged else fresh


def _tell(principal: Principal, decision: Decision) -> None:
    """Note the headers that every answer to this request carries from now on."""
    headers: dict[str, str] = g.answer_headers
    headers.update(response_headers(decision))
    # A secret that is over is refused like one that never was: nothing tells that it existed.
    refused = decision.code == "invalid_key"
    if decision.sunset_at is not None and principal.rotation is not None and not refused:
        headers["Deprecation"] = f"@{principal.rotation.started_at}"  # RFC 9745
        headers["Sunset"] = formatdate(decision.sunset_at, usegmt=True)  # RFC 8594
