"""What a verified key becomes: everything later code may know of the caller, and no secret."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from auth.plans import Caps, Plan


class Scope(StrEnum):
    """What a key may do."""

    GENERATE = "generate"
    USAGE_READ = "usage:read"
    KEY_ROTATE = "key:rotate"
    ADMIN = "admin"


class SecretRole(StrEnum):
    """Which of a key's at most two live secrets the caller used."""

    ONLY = "only"  # no rotation is under way
    NEW = "new"  # issued by a rotation whose old secret still lives
    OLD = "old"  # superseded: valid until grace after the new one's first use, or the deadline


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation under way; times are Unix seconds."""

    started_at: int
    deadline: int  # the old secret never works at or after this
    grace_seconds: int  # counted from the first use of the new secret
    first_used_at: int | None = None  # once it is recorded; Redis knows it at once

    @property
    def ends_at(self) -> int:
        """When the old secret works no more, as far as this is recorded."""
        if self.first_used_at is None:
            return self.deadline
        return min(self.deadline, self.first_used_at + self.grace_seconds)

    def as_list(self) -> list[int]:
        """Return the rotation as it is stored; what is not known yet is left out."""
        known = [] if self.first_used_at is None else [self.first_used_at]
        return [self.started_at, self.deadline, self.grace_seconds, *known]


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose key was verified; times are Unix seconds."""

    key_id: str
    name: str
    tenant: str
    plan: Plan  # the key's own limits are in it
    scopes: frozenset[Scope]
    label: str  # "live" or "test"
    expires_at: int | None
    allowed_cidrs: tuple[str, ...]
    created_at: int
    secret_role: SecretRole = SecretRole.ONLY
    rotation: Rotation | None = None
    keyring_shard: str = ""  # the shard that holds the record ...
    keyring_version: int = 0  # ... and the version it was read from
    caps: Caps | None = None  # of the tenant, across its keys
