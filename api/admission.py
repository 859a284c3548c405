"""The one place where a request is charged: acquired before the work, settled once after it.

Whatever the limiter says about the caller's keyring is acted on here: a newer keyring than the
one the key was checked against is loaded and the key checked again, so that a revoked or changed
key does not live a request longer. A refusal by the limiter becomes the documented problem.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

import structlog

from api.call import Call
from api.errors import ProblemError
from api.guards import reauthenticate, refuse_key
from api.idempotency import REPLAYED
from api.limits.headers import response_headers
from api.limits.policy import OF_TENANT, REFUSED, Decision, Lease, Once
from api.telemetry import child
from auth.principal import Principal

# A generation ends by then (finish_reason "deadline"); Cloud Run cuts a request at 300 s.
GENERATION_SECONDS = 280.0
# A lease outlives its request by a little: what a crash left behind comes back after this.
LEASE_SECONDS = 300.0

log = structlog.get_logger()


class Admission:
    """A charge that was made; `settle` gives back what was not used, once."""

    def __init__(self, call: Call, principal: Principal, lease: Lease, decision: Decision) -> None:
        self._call, self._decision, self._once = call, decision, threading.Lock()
        self.principal, self.lease, self.seed = principal, lease, decision.seed

    def give_back(self) -> None:
        """Undo the charge: the request was never begun. Its numbers are not told to the caller."""
        for name in (*response_headers(self._decision), REPLAYED):
            self._call.headers.pop(name, None)
        self.settle(0, REFUSED)

    def settle(self, used_chars: int, finish: str) -> None:
        """Charge `used_chars` of what was reserved. Never raises; later calls do nothing."""
        self.settling(used_chars, finish)()

    def settling(self, used_chars: int, finish: str) -> Callable[[], None]:
        """Begin to `settle`; what is returned has to be called, and waits until it is done."""
        if not self._once.acquire(blocking=False):
            return _nothing
        limiter, lease = self._call.parts.limiter, self.lease
        try:
            settled = limiter.settling(lease, used_chars=used_chars, finish=finish)
        except Exception:
            # The lease ends by its TTL; the answer to the caller must not hang on it.
            log.exception("settle.failed", lease_id=lease.lease_id)
            return _nothing

        def wait() -> None:
            try:
                settled()
            except Exception:
                log.exception("settle.failed", lease_id=lease.lease_id)  # as above

        return wait


def _nothing() -> None:
    """Somebody else has settled it."""


def admit(call: Call, chars: int, once: Once | None = None) -> Admission:
    """Charge the call's principal. Raise ProblemError 401, 403, 409, 422, 429 or 503."""
    principal = call.principal
    decision = _acquire(call, principal, chars, once)
    current = _give_back_unless_good(call, principal, decision)
    if current is not principal:
        call.principal = principal = current
        decision = _acquire(call, principal, chars, once)
    _tell(call, principal, decision)
    if decision.lease is None:
        raise refusal(call, principal, decision)
    if decision.seed is not None:
        call.headers[REPLAYED] = "true"
    return Admission(call, principal, decision.lease, decision)


def account(call: Call, chars: int = 0, once: Once | None = None) -> Decision:
    """Return what is left to the call's principal, and what would be said to `chars` characters.

    Charged to no plan but to a generous rate of its own. Raise ProblemError 401, 403 or 429.
    """
    parts, principal = call.parts, call.principal
    parts.throttle.count_account_read(principal.key_id)
    decision = parts.limiter.peek(principal, chars=chars, address=call.address, once=once)
    current = _current(call, principal, decision)
    if current is not principal:
        call.principal = principal = current
        decision = parts.limiter.peek(principal, chars=chars, address=call.address, once=once)
    _tell(call, principal, decision)
    if decision.code == "invalid_key":
        raise refusal(call, principal, decision)
    return decision


def refusal(call: Call, principal: Principal, decision: Decision) -> ProblemError:
    """Return the problem that says why the limiter refused."""
    if decision.code == "invalid_key":
        return refuse_key(call, "revoked")
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


def _acquire(call: Call, principal: Principal, chars: int, once: Once | None) -> Decision:
    parts = call.parts
    started = parts.monotonic()
    decision = parts.limiter.acquire(
        principal, chars=chars, lease_seconds=LEASE_SECONDS, address=call.address, once=once
    )
    parts.metrics.limiter_seconds.observe(parts.monotonic() - started)
    outcome = decision.code or ("local" if decision.lease and decision.lease.local else "allowed")
    child(parts.metrics.decisions, outcome).inc()
    return decision


def _give_back_unless_good(call: Call, principal: Principal, decision: Decision) -> Principal:
    """As `_current`; a charge made on an outdated record goes back first."""
    try:
        current = _current(call, principal, decision)
    except BaseException:
        if decision.lease is not None:
            Admission(call, principal, decision.lease, decision).give_back()
        raise
    if current is not principal and decision.lease is not None:
        Admission(call, principal, decision.lease, decision).give_back()
    return current


def _current(call: Call, principal: Principal, decision: Decision) -> Principal:
    """Return the principal by the current keyring: the very same if nothing of it changed."""
    version = decision.keyring_version
    if version is None:
        return principal  # Redis is away, or was emptied: the keyring sees to itself
    newer = call.parts.keyring.observe(principal.keyring_shard, version)
    if not newer and version <= principal.keyring_version:
        return principal
    fresh = reauthenticate(call)
    unchanged = replace(fresh, keyring_version=principal.keyring_version) == principal
    return principal if unchanged else fresh


def _tell(call: Call, principal: Principal, decision: Decision) -> None:
    """Note the headers that every answer to this request carries from now on."""
    headers = call.headers
    headers.update(response_headers(decision))
    # A secret that is over is refused like one that never was: nothing tells that it existed.
    refused = decision.code == "invalid_key"
    if decision.sunset_at is not None and principal.rotation is not None and not refused:
        headers["Deprecation"] = f"@{principal.rotation.started_at}"  # RFC 9745
        headers["Sunset"] = formatdate(decision.sunset_at, usegmt=True)  # RFC 8594
