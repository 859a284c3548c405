"""Does this identity have the rights it needs, and no more? Proven by using them.

What leaves nothing behind is tried: reading, listing, adding a version that no alias names and
destroying it, moving an alias to where it stands. For the rest, and for what an identity should
not be able to do, IAM is asked. A secret that is not there counts as one that cannot be used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from auth import directory as directories
from auth.admin_context import AdminContext
from auth.documents import ALIAS
from auth.errors import AdminRefusedError, AuthError
from auth.rights import Identity, needed
from auth.secrets import Right, SecretNotFoundError, SecretPermissionError, SecretStoreError

PROBE = b"secrets check"


class RightsCheck:
    """Holds the identity of this process against what an identity needs."""

    def __init__(self, context: AdminContext, *, web_users: bool = False) -> None:
        """`web_users`: the API is to keep web users too."""
        self._context, self._names, self._web_users = context, context.names, web_users
        self._added: dict[
            str, int
        ] = {}  # the version that proves the right to add; to be destroyed

    def check(self, identity: Identity) -> list[dict[str, Any]]:
        """Return for each secret what is `missing` and what is held `beyond` what is needed.

        Raise SecretStoreUnavailableError or AdminRefusedError at the first secret if the store does
        not answer or nothing was set up: forty more would say the same.
        """
        first = self._names.users if identity is Identity.WEB else self._names.directory
        try:
            self._context.secrets.read_alias(first, ALIAS)
        except SecretNotFoundError as exc:
            raise AdminRefusedError(
                f"nothing is set up here yet, or not for this identity to see ({exc}): "
                "`tenants add` makes the first tenant and all secrets"
            ) from exc
        except SecretPermissionError:
            pass  # its own row says so
        rows = [self._checked(name, identity) for name in self._secrets(identity)]
        return rows + ([self._creating()] if identity is Identity.OPERATOR else [])

    def _secrets(self, identity: Identity) -> list[str]:
        """Return the secrets to look at: of what an identity cannot list, the first one."""
        names, context = self._names, self._context
        shards, peppers, users = [names.shard(0)], [names.pepper("p1")], []
        try:
            if identity is not Identity.WEB:
                directory = directories.from_body(context.current(names.directory))
                shards = [names.shard(index) for index in range(directory.shards)]
                peppers = [names.pepper(one) for one in directory.pepper_ids]
            if identity is not Identity.API or self._web_users:
                users = list(context.web_users())
        except (SecretStoreError, AuthError):
            pass  # the check of that very secret says so
        web_keys = [names.web_key(user) for user in users]
        audit = [names.audit, names.audit_archive]
        return [names.directory, *shards, *audit, *peppers, names.users, *web_keys]

    def _checked(self, name: str, identity: Identity) -> dict[str, Any]:
        wanted = needed(identity, name, self._names, web_users=self._web_users)
        held = self._held(name)
        lacking = {}
        for right in sorted(wanted):  # "add" comes before "destroy"
            reason = self._why_not(name, right, held)
            if reason is not None:
                lacking[right] = reason
        return {
            "secret": name,
            "missing": [f"{right.value}{reason}" for right, reason in lacking.items()],
            "beyond": sorted(right.value for right in held - wanted),
        }

    def _why_not(self, name: str, right: Right, held: frozenset[Right]) -> str | None:
        """Return what is to be said besides the right's name; None if it is there."""
        attempt = self._attempts(name).get(right)
        if attempt is None:
            return None if right in held else ""
        try:
            attempt()
        except SecretPermissionError:
            return ""
        except SecretStoreError as exc:
            return f" ({exc})"
        return None

    def _attempts(self, name: str) -> Mapping[Right, Callable[[], object]]:
        secrets, names = self._context.secrets, self._names
        read_only: dict[Right, Callable[[], object]] = {
            Right.ACCESS: lambda: secrets.access(name, self._some_version(name)),
            Right.GET: lambda: secrets.read_alias(name, ALIAS),
            Right.LIST: lambda: secrets.list_versions(name),
        }
        if name == names.audit_archive:
            del read_only[Right.ACCESS]  # empty until the chain is long
        if name.startswith((names.pepper(""), names.web_key(""))):
            return read_only  # what is read by number or as `latest` gets no version to prove this
        writing: dict[Right, Callable[[], object]] = {Right.ADD: lambda: self._add(name)}
        if name in self._added:
            writing[Right.DESTROY] = lambda: secrets.destroy_version(name, self._added[name])
        if name != names.audit_archive:
            writing[Right.UPDATE] = lambda: self._move_nowhere(name)
        return read_only | writing

    def _some_version(self, name: str) -> int | str:
        if name.startswith(self._names.pepper("")):
            return 1
        return "latest" if name.startswith(self._names.web_key("")) else ALIAS

    def _add(self, name: str) -> None:
        self._added[name] = self._context.secrets.add_version(name, PROBE)

    def _move_nowhere(self, name: str) -> None:
        secrets = self._context.secrets
        state = secrets.read_alias(name, ALIAS)
        if state.number is not None:
            secrets.move_alias(name, ALIAS, state.number, state.etag)

    def _held(self, name: str) -> frozenset[Right]:
        try:
            return self._context.secrets.rights(name)
        except SecretStoreError:
            return frozenset()

    def _creating(self) -> dict[str, Any]:
        name = f"{self._names.prefix}-check"
        try:
            self._context.secrets.ensure_secret(name)
            self._context.secrets.delete_secret(name)
        except SecretStoreError as exc:
            return {"secret": name, "missing": [f"create secrets ({exc})"], "beyond": []}
        return {"secret": name, "missing": [], "beyond": []}
