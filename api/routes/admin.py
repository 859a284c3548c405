"""`/v1/admin/*`: the admin's operations over HTTP, each of them `auth.admin`'s own.

Only keys with the scope `admin` come here; every change is recorded as that key's. A refusal is
404 for what does not exist and 409 otherwise, with the sentence that the command line prints.
"""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from api.access import requires
from api.admission import account
from api.call import current_call
from api.errors import FieldError, ProblemError
from api.guards import acting_admin, flag, json_body
from api.schemas import (
    KeyChange,
    KeyRequest,
    RevokeRequest,
    RotateRequest,
    TenantChange,
    TenantRequest,
)
from auth.admin import Admin, KeySettings
from auth.admin_checks import checked_scopes
from auth.audit import BrokenChainError
from auth.failures import KEPT_HOURS
from auth.principal import Scope

blueprint = Blueprint("admin", __name__, url_prefix="/v1/admin")

MAX_AUDIT_RECORDS = 1000


def _admin() -> Admin:
    """Return the operations, after the caller's key was checked against Redis too."""
    account(current_call())
    return acting_admin(current_call())


@blueprint.get("/tenants")
@requires(Scope.ADMIN)
def list_tenants() -> Response:
    """List the tenants."""
    return jsonify({"tenants": _admin().tenants.list()})


@blueprint.post("/tenants")
@requires(Scope.ADMIN, body=TenantRequest)
def add_tenant() -> Response:
    """Add a tenant."""
    body = json_body(current_call(), TenantRequest)
    return jsonify(_admin().tenants.add(body.tenant, body.plan))


@blueprint.get("/tenants/<tenant>")
@requires(Scope.ADMIN)
def show_tenant(tenant: str) -> Response:
    """Show a tenant."""
    return jsonify(_admin().tenants.show(tenant))


@blueprint.patch("/tenants/<tenant>")
@requires(Scope.ADMIN, body=TenantChange)
def change_tenant(tenant: str) -> Response:
    """Change a tenant's plan, disable it or enable it again."""
    body = json_body(current_call(), TenantChange)
    tenants = _admin().tenants
    view = tenants.show(tenant)
    if body.plan is not None:
        view = tenants.set_plan(tenant, body.plan)
    if body.state is not None:
        view = tenants.disable(tenant) if body.state == "disabled" else tenants.enable(tenant)
    return jsonify(view)


@blueprint.get("/keys")
@requires(Scope.ADMIN, query=("tenant", "unused_days"))
def list_keys() -> Response:
    """List keys: all, a `tenant`'s, or those not used for `unused_days`."""
    unused_days = _whole_number("unused_days")
    keys = _admin().keys.list(tenant=request.args.get("tenant"), unused_days=unused_days)
    return jsonify({"keys": keys})


@blueprint.post("/keys")
@requires(Scope.ADMIN, body=KeyRequest)
def issue_key() -> Response:
    """Issue a key; the whole key is in this answer only."""
    body = json_body(current_call(), KeyRequest)
    view = _admin().keys.issue(
        body.tenant,
        body.name,
        body.scopes,
        plan=body.plan,
        expires_at=body.expires_at,
        allowed_cidrs=body.allowed_cidrs,
    )
    return jsonify(view)


@blueprint.get("/keys/<key_id>")
@requires(Scope.ADMIN)
def show_key(key_id: str) -> Response:
    """Show a key."""
    return jsonify(_admin().keys.show(key_id))


@blueprint.patch("/keys/<key_id>")
@requires(Scope.ADMIN, body=KeyChange)
def change_key(key_id: str) -> Response:
    """Change what a key is called, may do, or until when and from where it works."""
    body = json_body(current_call(), KeyChange)
    given = body.model_fields_set
    settings = KeySettings(
        name=body.name,
        plan=body.plan,
        tenants_plan="plan" in given and body.plan is None,
        scopes=None if body.scopes is None else checked_scopes(body.scopes),
        expires_at=body.expires_at,
        never_expires="expires_at" in given and body.expires_at is None,
        allowed_cidrs=None if body.allowed_cidrs is None else tuple(body.allowed_cidrs),
    )
    return jsonify(_admin().keys.set(key_id, settings))


@blueprint.post("/keys/<key_id>/rotate")
@requires(Scope.ADMIN, body=RotateRequest, body_required=False)
def rotate_key(key_id: str) -> Response:
    """Give a key a new secret; the whole key is in this answer only."""
    body = json_body(current_call(), RotateRequest)
    view = _admin().keys.rotate(
        key_id,
        deadline_seconds=body.deadline_seconds,
        grace_seconds=body.grace_seconds,
        force=body.force,
        web_copy=body.web_copy,
    )
    return jsonify(view)


@blueprint.delete("/keys/<key_id>/rotation")
@requires(Scope.ADMIN, query=("web_copy",))
def cancel_rotation(key_id: str) -> Response:
    """Take back a new secret that was never used; `web_copy` as for the holder."""
    return jsonify(_admin().keys.cancel_rotation(key_id, web_copy=flag("web_copy")))


@blueprint.post("/keys/<key_id>/revoke")
@requires(Scope.ADMIN, body=RevokeRequest, body_required=False)
def revoke_key(key_id: str) -> Response:
    """Refuse a key for ever, from its next request on."""
    body = json_body(current_call(), RevokeRequest)
    return jsonify(_admin().keys.revoke(key_id, body.reason))


@blueprint.get("/audit")
@requires(Scope.ADMIN, query=("limit",))
def list_audit() -> Response:
    """List the newest records of the audit chain, oldest first; `limit` says how many."""
    limit = _whole_number("limit")
    limit = 100 if limit is None else min(limit, MAX_AUDIT_RECORDS)
    return jsonify({"records": _admin().audit_records(limit) if limit else []})


@blueprint.get("/audit/verify")
@requires(Scope.ADMIN)
def verify_audit() -> Response:
    """Prove the audit chain whole, or name the first record that is wrong."""
    try:
        return jsonify(_admin().verify_audit())
    except BrokenChainError as exc:
        raise ProblemError("conflict", f"The audit chain is broken: {exc}.") from exc


@blueprint.get("/failures")
@requires(Scope.ADMIN, query=("hours",))
def list_failures() -> Response:
    """Tell of failed authentications, by reason and by address, in the last `hours` (24).

    On all instances together, kept for a week. Of IPv6 an address is a /64; `others` is what came
    from addresses that are not listed.
    """
    hours = _whole_number("hours")
    if hours is not None and not 1 <= hours <= KEPT_HOURS:
        raise ProblemError(
            "invalid_request", errors=[FieldError("hours", f"must be 1 to {KEPT_HOURS}")]
        )
    return jsonify(_admin().failures() if hours is None else _admin().failures(hours))


def _whole_number(name: str) -> int | None:
    text = request.args.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise ProblemError("invalid_request", errors=[FieldError(name, "must be a whole number")])
    return int(text)
