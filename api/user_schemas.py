"""The bodies of what concerns web users: their accounts, and a person's own password."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from api.schemas import Body

Password = Annotated[str, StringConstraints(max_length=256)]


class FirstPassword(Body):
    """`POST /v1/admin/users/<user>/password`; without a password one is generated."""

    password: Password | None = None
    must_change_password: bool | None = Field(
        default=None, description="At the next login; without it, if the password was generated."
    )


class UserRequest(FirstPassword):
    """`POST /v1/admin/users`; without a password one is generated."""

    user: str
    tenant: str
    role: Literal["user", "admin"] = "user"


class UserChange(Body):
    """`PATCH /v1/admin/users/<user>`."""

    role: Literal["user", "admin"] | None = None
    state: Literal["active", "disabled"] | None = None


class KeyAssignment(Body):
    """`POST /v1/admin/users/<user>/key`: a live key of the user's tenant."""

    key: Annotated[str, StringConstraints(max_length=256)]


class PasswordChange(Body):
    """`POST /v1/user/password`, with the key that is forwarded for this user."""

    user: str = Field(max_length=64)
    current_password: Password
    new_password: Password
