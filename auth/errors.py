"""How authentication and administration fail; the public text of a refusal is chosen by the API.

`InvalidKeyError.reason` is for logs and metrics alone: to the outside every reason is one answer.
No error ever carries a key, a secret or a digest.
"""

from __future__ import annotations

from enum import StrEnum


class AuthError(Exception):
    """Any refusal or failure of this room; `str()` is one line for the log."""


class InvalidApiKeyError(AuthError):
    """The text is not an API key: wrong shape, or the checksum does not match."""


class KeyRefusal(StrEnum):
    """Why a key was refused; never told to the caller."""

    MISSING = "missing"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"  # no such key id
    MISMATCH = "mismatch"  # the id is known, the secret is not its
    WRONG_LABEL = "wrong_label"
    EXPIRED = "expired"
    REVOKED = "revoked"
    ROTATED_OUT = "rotated_out"  # the old secret of a rotation past its deadline


class InvalidKeyError(AuthError):
    """No valid key: 401 to the outside, whatever the reason."""

    def __init__(self, reason: KeyRefusal, key_id: str | None = None) -> None:
        super().__init__(f"invalid key: {reason.value}")
        self.reason = reason
        self.key_id = key_id  # only where the secret was proven; safe to log


class AddressNotAllowedError(AuthError):
    """A valid key, used from outside its allowed CIDRs."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"key {key_id} was used from an address outside its list")
        self.key_id = key_id


class TenantDisabledError(AuthError):
    """A valid key of a tenant that is disabled."""

    def __init__(self, tenant: str, key_id: str) -> None:
        super().__init__(f"tenant {tenant} is disabled")
        self.tenant = tenant
        self.key_id = key_id


class UnknownPlanError(AuthError):
    """A valid key whose plan the plans file lacks: our mistake, and closed, not unlimited."""

    def __init__(self, plan: str, key_id: str) -> None:
        super().__init__(f"key {key_id} has the plan {plan}, which PLANS_FILE lacks")


class KeyringUnavailableError(AuthError):
    """There is no keyring, or the last good one is too old to be trusted; nobody is let in."""


class MalformedDocumentError(AuthError):
    """A stored document is not what this program writes; it is not used, not even in part."""


class MalformedKeyringError(MalformedDocumentError):
    """A shard of the keyring is malformed; it never replaces a good one."""


class AdminRefusedError(AuthError):
    """An admin's operation was refused; `str()` is the sentence that the admin reads."""


class DocumentFullError(AdminRefusedError):
    """A document has no room for more; nothing was changed."""


class UnknownNameError(AdminRefusedError):
    """There is no tenant or key of that name."""
