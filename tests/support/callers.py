"""Principals and plans for tests that need a caller and no keyring."""

from __future__ import annotations

from auth.plans import Caps, Plan
from auth.principal import Principal, Rotation, Scope, SecretRole


def plan_of(
    *,
    requests_per_minute: int = 600,
    chars_per_minute: int = 60_000,
    chars_per_day: int = 1_000_000,
    chars_per_month: int = 10_000_000,
    concurrency: int = 100,
    max_num_chars: int = 10_000,
) -> Plan:
    """Return a plan that binds nowhere but where the test says so."""
    return Plan(
        name="test",
        requests_per_minute=requests_per_minute,
        chars_per_minute=chars_per_minute,
        chars_per_day=chars_per_day,
        chars_per_month=chars_per_month,
        concurrency=concurrency,
        max_num_chars=max_num_chars,
        weight=1,
    )


def caller(
    plan: Plan | None = None,
    *,
    key_id: str = "0123456789ab",
    tenant: str = "acme",
    secret_role: SecretRole = SecretRole.ONLY,
    rotation: Rotation | None = None,
    caps: Caps | None = None,
) -> Principal:
    """Return a verified caller on the plan."""
    return Principal(
        key_id=key_id,
        name="ci",
        tenant=tenant,
        plan=plan or plan_of(),
        scopes=frozenset({Scope.GENERATE}),
        label="test",
        expires_at=None,
        allowed_cidrs=(),
        created_at=0,
        secret_role=secret_role,
        rotation=rotation,
        keyring_shard="keyring-00",
        keyring_version=1,
        caps=caps,
    )
