"""What an admin watches: this instance's load now, and what tenants and keys used day by day.

The load is this process's alone, since it started; usage comes from the counters that enforce, and
is 503 while they cannot be read.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

from flask import Blueprint, Response, jsonify, request

from api.access import requires
from api.admission import account
from api.call import current_call
from api.errors import FieldError, ProblemError
from api.guards import acting_admin
from api.limits.limiter import LimiterUnavailableError
from api.limits.usage import by_day, by_key, total
from api.parts import service
from api.routes.usage import day_asked
from auth.principal import Scope

blueprint = Blueprint("admin_load", __name__, url_prefix="/v1/admin")

DAYS = 30


@blueprint.get("/load")
@requires(Scope.ADMIN)
def load() -> Response:
    """Tell what this instance does now, and what it refused since it started."""
    parts = service()
    account(current_call())
    engine = parts.lifecycle.stats()
    return jsonify(
        {
            "model": parts.lifecycle.model_name,
            "slots": engine.slots if engine else 0,
            "running": engine.running if engine else 0,
            "waiting": engine.waiting if engine else 0,
            "chars_per_second": round(engine.chars_per_second, 1) if engine else 0.0,
            "generated_chars": engine.generated_chars if engine else 0,
            "refused": parts.metrics.refusals(),
            "since": parts.started_at,
        }
    )


@blueprint.get("/usage")
@requires(Scope.ADMIN)
def usage() -> Response:
    """Tell what each tenant used on each of the last 30 days (UTC), the oldest first, and what
    each of its keys used in them.
    """
    call, parts = current_call(), service()
    account(call)
    admin = acting_admin(call)
    last = datetime.fromtimestamp(parts.clock(), UTC).date()
    first = last - timedelta(days=DAYS - 1)
    days = [first + timedelta(days=number) for number in range(DAYS)]
    keys: dict[str, list[str]] = {one["tenant"]: [] for one in admin.tenants.list()}
    for key in admin.keys.list():
        keys.setdefault(key["tenant"], []).append(key["key_id"])
    tenants: list[dict[str, Any]] = []
    for tenant, key_ids in keys.items():
        try:
            rows = parts.limiter.usage(tenant, key_ids, first, last)
        except LimiterUnavailableError as exc:
            raise ProblemError("limiter_unavailable", reason=str(exc)) from exc
        used = by_day(rows)
        tenants.append(
            {
                "tenant": tenant,
                "chars": [used[day].chars if day in used else 0 for day in days],
                "requests": total(rows).requests,
                "refused": total(rows).refused,
                "keys": {key_id: asdict(used) for key_id, used in by_key(rows).items()},
            }
        )
    return jsonify({"from": first.isoformat(), "to": last.isoformat(), "tenants": tenants})


@blueprint.get("/usage/export")
@requires(Scope.ADMIN, query=("tenant", "from", "to"))
def export() -> Response:
    """List what each key used on each day, the oldest first: of all tenants or of one.

    `from` and `to` are UTC dates, both included; without them the last 400 days.
    """
    errors: list[FieldError] = []
    first = day_asked("from", date.min, errors)
    last = day_asked("to", date.max, errors)
    if errors:
        raise ProblemError("invalid_request", errors=errors)
    account(current_call())
    rows = acting_admin(current_call()).usage.export(request.args.get("tenant"), first, last)
    return jsonify({"rows": rows})
