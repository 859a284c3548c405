"""A key's own account: what it is, what is left of its limits, and its rotation by its holder."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from api.access import requires
from api.admission import account
from api.call import current_call
from api.guards import acting_admin, flag, json_body, presented_key
from api.parts import service
from api.schemas import RotateRequest
from auth.principal import Principal, Rotation, Scope
from auth.views import warning_days

blueprint = Blueprint("key", __name__, url_prefix="/v1/key")


@blueprint.get("")
@requires(None)
def show() -> Response:
    """Tell the caller its own key's account; not charged to the plan."""
    call = current_call()
    decision, principal = account(call), call.principal
    body = {
        "key_id": principal.key_id,
        "name": principal.name,
        "tenant": principal.tenant,
        "plan": principal.plan.name,  # some limits may be the key's own: `limits` has what holds
        "max_num_chars": principal.plan.max_num_chars,
        "scopes": sorted(scope.value for scope in principal.scopes),
        "label": principal.label,
        "created_at": principal.created_at,
        "last_used_at": acting_admin(call).keys.last_used_at(principal.tenant, principal.key_id),
        "expires_at": principal.expires_at,
        "expires_in_days": warning_days(principal.expires_at, int(service().clock())),
        "allowed_cidrs": list(principal.allowed_cidrs),
        "limits": [state._asdict() for state in decision.limits],
        "rotation": _rotation(principal, decision.sunset_at),
    }
    return jsonify(body)


@blueprint.post("/rotate")
@requires(Scope.KEY_ROTATE, body=RotateRequest, body_required=False)
def rotate() -> Response:
    """Give the caller's own key a new secret, shown in this answer only.

    The old secret works on until the grace after the new one's first use has passed, and never
    past the deadline.
    """
    call = current_call()
    body = json_body(call, RotateRequest)
    account(call)
    view = acting_admin(call).keys.rotate(
        call.principal.key_id,
        deadline_seconds=body.deadline_seconds,
        grace_seconds=body.grace_seconds,
        force=body.force,
        web_copy=body.web_copy,
        by=presented_key(call),
    )
    return jsonify(view)


@blueprint.delete("/rotation")
@requires(Scope.KEY_ROTATE, query=("web_copy",))
def cancel_rotation() -> Response:
    """Take back a new secret that was never used.

    With `web_copy=true` the caller sees to the copies of the web users it is forwarded for.
    """
    call = current_call()
    account(call)
    view = acting_admin(call).keys.cancel_rotation(call.principal.key_id, web_copy=flag("web_copy"))
    return jsonify(view)


def _rotation(principal: Principal, sunset_at: int | None) -> dict[str, Any] | None:
    rotation: Rotation | None = principal.rotation
    if rotation is None:
        return None
    return {
        "started_at": rotation.started_at,
        "deadline": rotation.deadline,
        "grace_seconds": rotation.grace_seconds,
        "secret_used": principal.secret_role.value,
        "sunset_at": sunset_at,
    }
