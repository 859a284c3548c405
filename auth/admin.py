"""Every admin operation, once: the command line and the HTTP routes both call these.

Answers are plain values with the field names of the HTTP API. A refusal is AdminRefusedError, the
store being away SecretStoreError; either way nothing was changed unless the message says so.
"""

from __future__ import annotations

from typing import Any

from auth.admin_bulk import KeyBulk
from auth.admin_context import AdminContext
from auth.admin_keys import KeyAdmin, KeySettings
from auth.admin_limits import LimitsAdmin
from auth.admin_peppers import PepperAdmin
from auth.admin_rights import RightsCheck
from auth.admin_tenants import TenantAdmin
from auth.admin_usage import UsageAdmin
from auth.admin_users import UserAdmin
from auth.audit import BrokenChainError
from auth.audit_agreement import disagreement
from auth.documents import Document
from auth.errors import AdminRefusedError
from auth.failures import HOUR_SECONDS, KEPT_HOURS, SHOWN_HOURS, told
from auth.propagation import PropagationUnavailableError
from auth.rights import Identity, gcloud_lines, web_users_gcloud_lines
from auth.secrets import SecretPermissionError

__all__ = ["Admin", "AdminRefusedError", "KeySettings"]


VERIFICATIONS = 3  # a change may come between the reading of the chain and of its document


class Admin:
    """The operations of one actor."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self.tenants = TenantAdmin(context)
        self.keys = KeyAdmin(context)
        self.bulk = KeyBulk(context, self.keys)
        self.peppers = PepperAdmin(context)
        self.users = UserAdmin(context, self.keys)
        self.limits = LimitsAdmin(context)
        self.usage = UsageAdmin(context)

    def set_up(self) -> None:
        """Create what is missing of an empty store; safe to repeat."""
        self._context.set_up()

    def audit_records(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the audit chain, oldest first; with `limit` only its end."""
        self._context.directory()
        records = [dict(record) for record in self._context.audit.records()]
        return records if limit is None else records[-limit:]

    def verify_audit(self) -> dict[str, Any]:
        """Prove the chain whole, and that every document is what its last record left.

        Raise BrokenChainError naming the first record or document that is wrong.
        """
        context = self._context
        names = [*context.keyring_documents(context.directory()), context.names.users]
        unread: set[str] = set()

        def read(name: str) -> Document | None:
            try:
                return context.document(name)
            except SecretPermissionError:
                unread.add(name)  # the API's identity may not read the users
                return None

        for _ in range(VERIFICATIONS):
            chain = context.audit.verify()
            wrong = disagreement(read, names, chain.last)
            if wrong is None:
                found = {"records": chain.records, "last_hash": chain.last_hash, "whole": True}
                return found | ({"not_compared": sorted(unread)} if unread else {})
        raise BrokenChainError(wrong)

    def failures(self, hours: int = SHOWN_HOURS) -> dict[str, Any]:
        """Return the failed authentications of the last hours, this one included.

        Raise PropagationUnavailableError: they are in Redis alone.
        """
        context = self._context
        if not 1 <= hours <= KEPT_HOURS:
            raise AdminRefusedError(f"failures are kept for 1 to {KEPT_HOURS} hours")
        if context.propagation is None:
            raise AdminRefusedError("failures are counted in Redis, and there is none")
        last = context.now() // HOUR_SECONDS
        try:
            counted = context.propagation.failures(range(last - hours + 1, last + 1))
        except PropagationUnavailableError as exc:
            raise PropagationUnavailableError(
                f"Failures are counted in Redis, which does not answer ({exc}): try again shortly"
            ) from exc
        return told(hours, context.now(), counted)

    def grants(self, *, web_users: bool = False) -> str:
        """Return the `gcloud` lines that create every identity with its rights.

        With `web_users` those that let the API keep web users too, and nothing else.
        """
        names = self._context.names
        return "\n".join(web_users_gcloud_lines(names) if web_users else gcloud_lines(names))

    def check_secrets(
        self, identity: Identity = Identity.OPERATOR, *, web_users: bool = False
    ) -> list[dict[str, Any]]:
        """Return for each secret what this identity lacks, and holds beyond what it needs."""
        return RightsCheck(self._context, web_users=web_users).check(identity)
