"""Every admin operation, once: the command line and the HTTP routes both call these.

Answers are plain values with the field names of the HTTP API. A refusal is AdminRefusedError, the
store being away SecretStoreError; either way nothing was changed unless the message says so.
"""

from __future__ import annotations

from typing import Any

from auth.admin_context import AdminContext
from auth.admin_keys import KeyAdmin, KeySettings
from auth.admin_tenants import TenantAdmin
from auth.admin_users import UserAdmin
from auth.errors import AdminRefusedError
from auth.secrets import SecretPermissionError, SecretStoreError

__all__ = ["Admin", "AdminRefusedError", "KeySettings"]


class Admin:
    """The operations of one actor."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self.tenants = TenantAdmin(context)
        self.keys = KeyAdmin(context)
        self.users = UserAdmin(context, self.keys)

    def set_up(self) -> None:
        """Create what is missing of an empty store; safe to repeat."""
        self._context.set_up()

    def audit_records(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the audit chain, oldest first; with `limit` only its end."""
        self._context.directory()
        records = [dict(record) for record in self._context.audit.records()]
        return records if limit is None else records[-limit:]

    def verify_audit(self) -> dict[str, Any]:
        """Prove the chain whole. Raise BrokenChainError naming the first record that is wrong."""
        self._context.directory()
        count, last = self._context.audit.verify()
        return {"records": count, "last_hash": last, "whole": True}

    def check_secrets(self) -> list[dict[str, Any]]:
        """Try what each document needs, and return for each what this identity lacks."""
        names, directory = self._context.names, self._context.directory()
        shards = [names.shard(index) for index in range(directory.shards)]
        documents = [names.directory, *shards, names.users, names.audit]
        peppers = [names.pepper(one) for one in directory.pepper_ids]
        return [self._check_document(name) for name in documents] + [
            self._check_read(name) for name in peppers
        ]

    def _check_document(self, name: str) -> dict[str, Any]:
        """A version that no alias ever names shows the right to write and changes nothing."""
        secrets = self._context.secrets
        missing = []
        for right, attempt in (
            ("read", lambda: secrets.access(name, "current")),
            ("read its aliases", lambda: secrets.read_alias(name, "current")),
            ("add and destroy versions", lambda: self._add_and_destroy(name)),
        ):
            try:
                attempt()
            except SecretPermissionError:
                missing.append(right)
            except SecretStoreError as exc:
                missing.append(f"{right}: {exc}")
        return {"secret": name, "missing": missing}

    def _check_read(self, name: str) -> dict[str, Any]:
        try:
            self._context.secrets.access(name, 1)
        except SecretStoreError as exc:
            return {"secret": name, "missing": [f"read: {exc}"]}
        return {"secret": name, "missing": []}

    def _add_and_destroy(self, name: str) -> None:
        number = self._context.secrets.add_version(name, b"secrets check")
        self._context.secrets.destroy_version(name, number)
