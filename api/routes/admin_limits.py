"""Limits over HTTP: a key's own in the place of its plan's, and a tenant's caps.

A limit that is absent from the body stays as it is, one that is null is taken away.
"""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api.access import requires
from api.admission import account
from api.call import current_call
from api.guards import acting_admin, json_body
from api.schemas import Body, CapsChange, LimitsChange
from auth.principal import Scope

blueprint = Blueprint("admin_limits", __name__, url_prefix="/v1/admin")


@blueprint.patch("/keys/<key_id>/limits")
@requires(Scope.ADMIN, body=LimitsChange)
def change_limits(key_id: str) -> Response:
    """Give a key limits of its own; a null one is the plan's again."""
    change = _given(json_body(current_call(), LimitsChange))
    account(current_call())
    return jsonify(acting_admin(current_call()).limits.set_key_limits(key_id, change))


@blueprint.patch("/tenants/<tenant>/caps")
@requires(Scope.ADMIN, body=CapsChange)
def change_caps(tenant: str) -> Response:
    """Cap what all keys of a tenant use together; a null cap ends."""
    change = _given(json_body(current_call(), CapsChange))
    account(current_call())
    return jsonify(acting_admin(current_call()).limits.set_caps(tenant, change))


def _given(body: Body) -> dict[str, int | None]:
    return {name: getattr(body, name) for name in body.model_fields_set}
