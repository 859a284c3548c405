"""The admin's operations on web users. A generated password is in one answer and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from auth.admin_context import AdminContext, answered, check_name
from auth.admin_keys import KeyAdmin, KeySettings
from auth.api_key import parse
from auth.changes import Entry
from auth.errors import AdminRefusedError, InvalidApiKeyError, UnknownNameError
from auth.principal import Scope
from auth.users import (
    WEB_KEY_SECONDS,
    WEB_USERS_SECONDS,
    Role,
    User,
    Users,
    generate_password,
    hash_password,
    is_password,
    with_password,
    with_user,
)
from auth.views import user_view

USER_SCOPES = frozenset({Scope.GENERATE, Scope.USAGE_READ, Scope.KEY_ROTATE})


class WrongPasswordError(AdminRefusedError):
    """The present password is another one."""


class UserAdmin:
    """Each operation returns the user as it then is; AdminRefusedError says why not."""

    def __init__(self, context: AdminContext, keys: KeyAdmin) -> None:
        self._context, self._keys = context, keys

    def add(
        self,
        name: str,
        tenant: str,
        roles: Iterable[str] = (Role.USER,),
        *,
        password: str | None = None,
        must_change: bool | None = None,
    ) -> dict[str, Any]:
        """Add a user with a key of their own, which only the web app gets to see.

        Without a password one is generated, and must be changed at the first login unless
        `must_change` is False.
        """
        context, now = self._context, self._context.now()
        check_name("user", name)
        context.tenant(context.directory(), tenant)
        granted = checked_roles(roles)
        chosen = generate_password() if password is None else password
        hashed = hash_password(chosen)
        if name in context.web_users():
            raise AdminRefusedError(f"there is a user {name} already")
        context.users.make_room(name)
        scopes = USER_SCOPES | ({Scope.ADMIN} if Role.ADMIN in granted else set())
        issued = self._keys.issue(tenant, f"web user {name}", scopes, forwarded_for=[name])
        context.users.keep_key(name, issued["key"])
        user = User(
            name=name,
            password_hash=hashed,
            roles=granted,
            tenant=tenant,
            created_at=now,
            password_changed_at=now,
            key_id=issued["key_id"],
            must_change_password=password is None if must_change is None else must_change,
        )

        def edit(users: Users) -> tuple[Users, Entry]:
            if name in users:
                raise AdminRefusedError(f"there is a user {name} already")
            return with_user(users, user), Entry("user.add", name, None, user_view(user))

        outcome = context.change_users(edit)
        return answered(_told(user) | _shown(chosen, password), outcome)

    def list(self) -> list[dict[str, Any]]:
        """Return every user by name."""
        self._context.directory()
        users = self._context.web_users()
        return [user_view(users[name]) for name in sorted(users)]

    def show(self, name: str) -> dict[str, Any]:
        """Return one user."""
        return user_view(_found(self._context.web_users(), name))

    def set_password(
        self, name: str, password: str | None = None, *, must_change: bool | None = None
    ) -> dict[str, Any]:
        """Give a user another password, generated if none is given; their sessions end."""
        now = self._context.now()
        chosen = generate_password() if password is None else password
        hashed = hash_password(chosen)
        forced = password is None if must_change is None else must_change
        view = self._change(
            name,
            "user.set-password",
            lambda user: with_password(user, hashed, now, must_change=forced),
        )
        return view | _shown(chosen, password)

    def change_password(self, name: str, *, key_id: str, current: str, new: str) -> dict[str, Any]:
        """Let a user change their own password; `key_id` is of the key that is used for it.

        Raise WrongPasswordError for a wrong present one, also for a user of another key.
        """
        user = self._context.web_users().get(name)
        if user is None or user.disabled or user.key_id != key_id:
            raise WrongPasswordError("is not right")
        if not is_password(current, user.password_hash):
            raise WrongPasswordError("is not right")
        if new == current:
            raise AdminRefusedError("the new password is the present one: choose another")
        return self.set_password(name, new, must_change=False)

    def set_roles(self, name: str, roles: Iterable[str]) -> dict[str, Any]:
        """Give a user other roles, and their key the scope that goes with them."""
        granted = checked_roles(roles)
        admin = Role.ADMIN in granted
        # A right is taken from the key first and given to it last: what fails on the way leaves
        # less of it, never more.
        told = () if admin else self._scope_key(name, admin=False)
        view = self._change(name, "user.set-role", lambda user: replace(user, roles=granted))
        told += self._scope_key(name, admin=True) if admin else ()
        warnings = list(dict.fromkeys([*view.get("warnings", []), *told]))
        return view | ({"warnings": warnings} if warnings else {})

    def assign_key(self, name: str, key: str) -> dict[str, Any]:
        """Forward another key for a user; it must be a live key of the user's tenant."""
        try:
            parsed = parse(key)
        except InvalidApiKeyError as exc:
            raise AdminRefusedError(str(exc)) from exc
        user = _found(self._context.web_users(), name)
        record = self._keys.holds(parsed)
        if record.tenant != user.tenant:
            raise AdminRefusedError(f"key {record.key_id} belongs to tenant {record.tenant}")
        self._context.users.keep_key(name, key)
        self._keys.forward(record.key_id, name, forwarded=True)
        view = self._change(
            name, "user.assign-key", lambda user: replace(user, key_id=record.key_id)
        )
        if user.key_id is not None and user.key_id != record.key_id:
            self._keys.forward(user.key_id, name, forwarded=False)
        return view | {"web_app_sees_within_seconds": WEB_KEY_SECONDS}

    def disable(self, name: str) -> dict[str, Any]:
        """Let a user log in no more; their sessions end, their key stays."""
        return self._change(name, "user.disable", lambda user: replace(user, disabled=True))

    def enable(self, name: str) -> dict[str, Any]:
        """Let a user log in again."""
        return self._change(name, "user.enable", lambda user: replace(user, disabled=False))

    def _scope_key(self, name: str, *, admin: bool) -> tuple[str, ...]:
        """Give the user's own key the scope `admin`, or take it; return what the admin is told."""
        self._context.directory()
        user = _found(self._context.web_users(), name)
        if user.key_id is None:
            return ()
        key = self._keys.show(user.key_id)
        held = frozenset(Scope(one) for one in key["scopes"])
        scopes = held | {Scope.ADMIN} if admin else held - {Scope.ADMIN}
        # A key that others share keeps its scopes: a role is one person's.
        if scopes == held or key["forwarded_for"] != [name] or key["state"] != "active":
            return ()
        changed = self._keys.set(user.key_id, KeySettings(scopes=scopes))
        return tuple(changed.get("warnings", ()))

    def _change(self, name: str, action: str, changed: Callable[[User], User]) -> dict[str, Any]:
        done: list[User] = []

        def edit(users: Users) -> tuple[Users, Entry]:
            before = _found(users, name)
            after = changed(before)
            done[:] = [after]
            views = user_view(before), user_view(after)
            entry = Entry(action, name, *views, takes_away=after.disabled)
            return with_user(users, after), entry

        self._context.directory()
        outcome = self._context.change_users(edit)
        return answered(_told(done[0]), outcome)


def checked_roles(names: Iterable[str]) -> frozenset[Role]:
    """Return the roles of these names; an admin is a user too."""
    try:
        roles = frozenset(Role(name) for name in names)
    except ValueError as exc:
        raise AdminRefusedError(f"{exc}: choose from {', '.join(Role)}") from exc
    if not roles:
        raise AdminRefusedError("a user needs at least one role")
    return roles | ({Role.USER} if Role.ADMIN in roles else set())


def _found(users: Users, name: str) -> User:
    user = users.get(name)
    if user is None:
        raise UnknownNameError(f"there is no user {name}")
    return user


def _told(user: User) -> dict[str, Any]:
    """Return a user just changed, with how late the web app may see it."""
    return user_view(user) | {"web_app_sees_within_seconds": WEB_USERS_SECONDS}


def _shown(chosen: str, given: str | None) -> dict[str, str]:
    return {"password": chosen} if given is None else {}
