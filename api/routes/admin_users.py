"""`/v1/admin/users` and a person's own password: who may log in to the web app, and as what.

Where this service's identity may not write the web users (they are a secret of their own), nothing
is changed and the answer is 409 with the command that can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, jsonify

from api.access import requires
from api.admission import account
from api.call import current_call
from api.errors import FieldError, ProblemError
from api.guards import acting_admin, json_body
from api.parts import service
from api.user_schemas import (
    FirstPassword,
    KeyAssignment,
    PasswordChange,
    UserChange,
    UserRequest,
)
from auth.admin_users import UserAdmin, WrongPasswordError
from auth.principal import Scope
from auth.secrets import SecretPermissionError

blueprint = Blueprint("admin_users", __name__, url_prefix="/v1")

NOT_FROM_HERE = (
    "Web users cannot be changed through this API: its identity has no right to their secret. "
    "An administrator either gives it that right (`python -m auth secrets grants --web-users` "
    "prints how) or makes the change on the secret store with `python -m auth users`."
)


def _answer(operation: Callable[[UserAdmin], Any]) -> Response:
    """Answer what the operation returns, after the caller's key was checked against Redis too."""
    account(current_call())
    try:
        return jsonify(operation(acting_admin(current_call()).users))
    except SecretPermissionError as exc:
        raise ProblemError("conflict", NOT_FROM_HERE, reason=str(exc)) from exc


@blueprint.get("/admin/users")
@requires(Scope.ADMIN)
def list_users() -> Response:
    """List the web users."""
    return _answer(lambda users: {"users": users.list()})


@blueprint.post("/admin/users")
@requires(Scope.ADMIN, body=UserRequest)
def add_user() -> Response:
    """Add a web user with a key of their own; a generated password is in this answer only."""
    body = json_body(current_call(), UserRequest)
    return _answer(
        lambda users: users.add(
            body.user,
            body.tenant,
            [body.role],
            password=body.password,
            must_change=body.must_change_password,
        )
    )


@blueprint.patch("/admin/users/<user>")
@requires(Scope.ADMIN, body=UserChange)
def change_user(user: str) -> Response:
    """Change a web user's role, disable them or enable them again."""
    body = json_body(current_call(), UserChange)

    def change(users: UserAdmin) -> dict[str, Any]:
        view = users.show(user)
        if body.role is not None:
            view = users.set_roles(user, [body.role])
        if body.state is not None:
            view = users.disable(user) if body.state == "disabled" else users.enable(user)
        return view

    return _answer(change)


@blueprint.post("/admin/users/<user>/password")
@requires(Scope.ADMIN, body=FirstPassword, body_required=False)
def reset_password(user: str) -> Response:
    """Give a web user another password, generated unless one is given; their sessions end.

    A generated one is in this answer only.
    """
    body = json_body(current_call(), FirstPassword)
    return _answer(
        lambda users: users.set_password(user, body.password, must_change=body.must_change_password)
    )


@blueprint.post("/admin/users/<user>/key")
@requires(Scope.ADMIN, body=KeyAssignment)
def assign_key(user: str) -> Response:
    """Forward another key for a web user."""
    body = json_body(current_call(), KeyAssignment)
    return _answer(lambda users: users.assign_key(user, body.key))


@blueprint.post("/user/password")
@requires(None, body=PasswordChange)
def change_password() -> Response:
    """Change one's own password of the web app: with the present one, and with one's own key.

    A wrong present password counts against the address like a refused key.
    """
    body = json_body(current_call(), PasswordChange)

    def change(users: UserAdmin) -> dict[str, Any]:
        return users.change_password(
            body.user,
            key_id=current_call().principal.key_id,
            current=body.current_password,
            new=body.new_password,
        )

    try:
        return _answer(change)
    except WrongPasswordError as exc:
        service().throttle.count_failed_key(current_call().address, "wrong_password")
        error = FieldError("current_password", f"{exc}")
        raise ProblemError("invalid_request", errors=[error]) from exc
