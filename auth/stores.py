"""Composition: from settings to the stores that the API, the web app and the command line use.

Nothing is read or written here but the home's directory; a Secret Manager that cannot be reached
shows when it is used.
Build stores after a fork, never before: they hold connections.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from auth.admin import Admin
from auth.admin_context import AdminContext
from auth.audit import Actor, AuditLog
from auth.changes import Changes
from auth.config import AuthSettings
from auth.documents import Documents
from auth.keyring_store import KeyringStore
from auth.names import Names
from auth.plans import Plan, load_plans
from auth.private_home import private_home
from auth.propagation import REQUEST_TIMEOUT_SECONDS, Propagation
from auth.secrets import SecretStore
from auth.users import UserStore
from auth.write_back import WriteBack


@dataclass(frozen=True, slots=True)
class Stores:
    """The parts of one process."""

    settings: AuthSettings
    secrets: SecretStore
    propagation: Propagation | None
    plans: Mapping[str, Plan]
    keyring: KeyringStore
    users: UserStore
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    documents: Callable[[SecretStore], Documents] = Documents

    def admin(self, actor: Actor) -> Admin:
        """Return the admin operations, recorded as this actor's."""
        names, documents = Names(self.settings.prefix), self.documents(self.secrets)
        audit = AuditLog(self.secrets, documents, names)
        context = AdminContext(
            secrets=self.secrets,
            documents=documents,
            changes=Changes(
                documents, audit, self.propagation, names, clock=self.clock, sleep=self.sleep
            ),
            audit=audit,
            users=self.users,
            propagation=self.propagation,
            names=names,
            plans=self.plans,
            label=self.settings.key_label,
            wanted_shards=self.settings.keyring_shards,
            actor=actor,
            clock=self.clock,
        )
        return Admin(context)

    def count_failure(self, hour: int, reason: str, network: str) -> None:
        """Count a failed authentication. Raise PropagationUnavailableError."""
        if self.propagation is not None:
            self.propagation.count_failure(hour, reason, network)

    def close(self) -> None:
        """Let go of all connections."""
        if self.propagation is not None:
            self.propagation.close()
        self.secrets.close()


def open_stores(
    settings: AuthSettings,
    redis_url: str | None,
    *,
    redis_timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    clock: Callable[[], float] = time.time,
) -> Stores:
    """Return the stores. Raise ValueError for a plans file that is wrong, or SecretStoreError."""
    plans = load_plans(settings.plans_file)
    secrets = open_secrets(settings)
    propagation = (
        None if redis_url is None else Propagation(redis_url, timeout_seconds=redis_timeout_seconds)
    )
    names, documents = Names(settings.prefix), Documents(secrets)
    audit = AuditLog(secrets, documents, names)
    keyring = KeyringStore(
        secrets,
        propagation,
        prefix=settings.prefix,
        plans=plans,
        label=settings.key_label,
        clock=clock,
        wanted_shards=settings.keyring_shards,
        moves=WriteBack(Changes(documents, audit, propagation, names, clock=clock), names),
    )
    users = UserStore(secrets, names)
    return Stores(settings, secrets, propagation, plans, keyring, users, clock)


def open_secrets(settings: AuthSettings) -> SecretStore:
    """Return the secret store that the settings choose."""
    if settings.gcp_project is None:
        from auth.secrets.file import FileSecretStore

        return FileSecretStore(private_home(settings.home) / "secrets")
    from auth.secrets.google import GoogleSecretStore  # some 50 MB: only where it is used

    identity = None
    if settings.workload is not None:
        from auth.secrets.fly_identity import credentials

        identity = credentials(settings.workload)
    return GoogleSecretStore(
        settings.gcp_project, emulator_host=settings.emulator_host, credentials=identity
    )
