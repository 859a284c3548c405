"""The admin's operations on web users through the API (`--api`).

An API whose identity may not write web users (the default on Google Cloud) refuses each of them
with the sentence that says how.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from auth.remote_call import Remote
from auth.users import Role


class RemoteUsers:
    """`auth.admin_users.UserAdmin` over HTTP."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def add(
        self,
        name: str,
        tenant: str,
        roles: Iterable[str] = (Role.USER,),
        *,
        password: str | None = None,
        must_change: bool | None = None,
    ) -> Any:
        body = {"user": name, "tenant": tenant, "role": _role(roles)}
        return self._remote.change("POST", "/users", body | _first(password, must_change))

    def list(self) -> Any:
        return self._remote.ask("/users")["users"]

    def set_password(
        self, name: str, password: str | None = None, *, must_change: bool | None = None
    ) -> Any:
        return self._remote.change("POST", f"{_user(name)}/password", _first(password, must_change))

    def set_roles(self, name: str, roles: Iterable[str]) -> Any:
        return self._remote.change("PATCH", _user(name), {"role": _role(roles)})

    def assign_key(self, name: str, key: str) -> Any:
        return self._remote.change("POST", f"{_user(name)}/key", {"key": key})

    def disable(self, name: str) -> Any:
        return self._remote.change("PATCH", _user(name), {"state": "disabled"})

    def enable(self, name: str) -> Any:
        return self._remote.change("PATCH", _user(name), {"state": "active"})


def _user(name: str) -> str:
    return f"/users/{quote(name, safe='')}"


def _role(roles: Iterable[str]) -> str:
    """Return the one role that the API asks for: an admin is a user too."""
    return (Role.ADMIN if Role.ADMIN in set(roles) else Role.USER).value


def _first(password: str | None, must_change: bool | None) -> dict[str, Any]:
    """Return what is said of a password; what is not given is the API's to choose."""
    said = {"password": password, "must_change_password": must_change}
    return {name: value for name, value in said.items() if value is not None}
