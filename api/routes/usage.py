"""`GET /v1/usage`: what the caller's own tenant used, from the very counters that enforce."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

from flask import Blueprint, Response, jsonify, request

from api.access import requires
from api.admission import account
from api.call import current_call
from api.errors import FieldError, ProblemError
from api.limits.limiter import LimiterUnavailableError
from api.limits.usage import KEPT_DAYS, by_day, by_key, total
from api.parts import service
from auth.principal import Principal, Scope

blueprint = Blueprint("usage", __name__, url_prefix="/v1/usage")

DEFAULT_DAYS = 30
# Four ASCII digits of years whose neighbours are years as well.
_DATE = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}")


@blueprint.get("")
@requires(Scope.USAGE_READ, query=("from", "to", "group_by"))
def show() -> Response:
    """Add up characters, requests and refusals of the caller's tenant, by day or by key.

    `from` and `to` are UTC dates, both included; without them the last 30 days.
    """
    parts = service()
    first, last, group_by = _query(datetime.fromtimestamp(parts.clock(), UTC).date())
    account(current_call())
    principal: Principal = current_call().principal
    names = parts.keyring.keys_of(principal.tenant)
    try:
        rows = parts.limiter.usage(principal.tenant, names, first, last)
    except LimiterUnavailableError as exc:
        raise ProblemError("limiter_unavailable", reason=str(exc)) from exc
    if group_by == "key":
        items = [
            {"key_id": key_id, "name": names.get(key_id), **asdict(used)}
            for key_id, used in by_key(rows).items()
        ]
    else:
        items = [{"day": day.isoformat(), **asdict(used)} for day, used in by_day(rows).items()]
    return jsonify(
        {
            "tenant": principal.tenant,
            "from": first.isoformat(),
            "to": last.isoformat(),
            "group_by": group_by,
            "items": items,
            "total": asdict(total(rows)),
        }
    )


def _query(today: date) -> tuple[date, date, str]:
    """Return the first day, the last day and the grouping. Raise ProblemError invalid_request."""
    errors: list[FieldError] = []
    last = day_asked("to", today, errors)
    first = day_asked("from", last - timedelta(days=DEFAULT_DAYS - 1), errors)
    group_by = request.args.get("group_by", "day")
    if group_by not in {"day", "key"}:
        errors.append(FieldError("group_by", 'must be "day" or "key"'))
    if not errors and not timedelta() <= last - first < timedelta(days=KEPT_DAYS):
        errors.append(FieldError("from", f"must be up to {KEPT_DAYS} days before `to`"))
    if errors:
        raise ProblemError("invalid_request", errors=errors)
    return first, last, group_by


def day_asked(name: str, default: date, errors: list[FieldError]) -> date:
    """Return a query parameter that is a UTC date; what is none is noted in `errors`."""
    text = request.args.get(name)
    if text is None:
        return default
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass  # no such day
    errors.append(FieldError(name, "must be a date such as 2026-11-23"))
    return default
