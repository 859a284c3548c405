"""What every admin operation works with, and the set-up of an empty secret store.

Nothing is cached: an operation reads the documents it needs and changes them through `Changes`.
The store being away is a SecretStoreError and changes nothing; Redis being away adds a warning.
"""

from __future__ import annotations

import secrets as random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from auth import directory as directories
from auth import keyring as keyrings
from auth import users as people
from auth.api_key import KEY_SHAPE
from auth.audit import Actor, AuditLog
from auth.changes import Changes, Decision, Entry, Outcome
from auth.config import SHARDS
from auth.directory import Directory, Tenant, check_shards
from auth.documents import Document, Documents
from auth.errors import AdminRefusedError, UnknownNameError
from auth.fields import NAME
from auth.keyring import KEY_ID, KeyRecord, KeyRing, shard_of
from auth.keyring_snapshot import READERS
from auth.names import Names
from auth.plans import Plan
from auth.propagation import Propagation, PropagationUnavailableError
from auth.secrets import SecretNotFoundError, SecretStore
from auth.users import Users, UserStore

FIRST_PEPPER = "p1"
PEPPER_BYTES = 32
NOT_TOLD = "Redis did not answer: running instances see this within 30 s instead of at once"
NOT_RECORDED = "the audit chain could not be written: the next change of the same kind adds this"


@dataclass(frozen=True, slots=True)
class AdminContext:
    """The parts of one admin session; `actor` is who its changes are recorded for."""

    secrets: SecretStore
    documents: Documents
    changes: Changes
    audit: AuditLog
    users: UserStore
    propagation: Propagation | None
    names: Names
    plans: Mapping[str, Plan]
    label: str
    wanted_shards: int | None  # KEYRING_SHARDS
    actor: Actor
    clock: Callable[[], float] = time.time

    def now(self) -> int:
        return int(self.clock())

    def set_up(self) -> None:
        """Create what is missing of an empty store; safe to repeat and to run twice at once."""
        if self.documents.exists(self.names.directory):
            check_shards(self.wanted_shards, self.directory().shards)
            return
        shards = self.wanted_shards or SHARDS
        self.create_pepper(FIRST_PEPPER)
        self.audit.create()
        self.changes.create(self.names.users, people.to_body({}))
        for index in range(shards):
            self.changes.create(self.names.shard(index), keyrings.to_body(KeyRing()))
        # Last, because it is what says that the rest is there.
        directory = Directory(shards, FIRST_PEPPER, (FIRST_PEPPER,))
        self.changes.create(self.names.directory, directories.to_body(directory))

    def create_pepper(self, pepper_id: str) -> None:
        """Write a pepper, once: it is read by the number of its first version for ever."""
        name = self.names.pepper(pepper_id)
        self.secrets.ensure_secret(name)
        if not self.secrets.list_versions(name):
            self.secrets.add_version(name, random.token_bytes(PEPPER_BYTES))

    def pepper(self, pepper_id: str) -> bytes:
        return self.secrets.access(self.names.pepper(pepper_id), 1).data

    def current(self, name: str) -> Mapping[str, Any]:
        """Return a document's body as of now."""
        return self.document(name).body

    def document(self, name: str) -> Document:
        """Return a document as of now: Redis knows of versions that aliases do not yet."""
        known: Mapping[str, int] = {}
        with suppress(PropagationUnavailableError):
            if self.propagation is not None:
                _, known = self.propagation.versions(self.names.keyring)
        return self.documents.read_at_least(name, known.get(name, 0))

    def directory(self) -> Directory:
        """Return the directory. Raise AdminRefusedError if nothing was set up."""
        try:
            return directories.from_body(self.current(self.names.directory))
        except SecretNotFoundError as exc:
            raise AdminRefusedError(
                "nothing is set up here yet: `tenants add` makes the first tenant"
            ) from exc

    def keyring_documents(self, directory: Directory) -> list[str]:
        """Return the names of the directory and of every shard."""
        shards = [self.names.shard(index) for index in range(directory.shards)]
        return [self.names.directory, *shards]

    def web_users(self) -> Users:
        """Return every web user by name."""
        return people.from_body(self.current(self.names.users))

    def tenant(self, directory: Directory, name: str) -> Tenant:
        tenant = directory.tenants.get(name)
        if tenant is None:
            raise UnknownNameError(f"there is no tenant {name}")
        return tenant

    def ring(self, index: int) -> KeyRing:
        return keyrings.from_body(self.current(self.names.shard(index)))

    def records(self, directory: Directory) -> list[KeyRecord]:
        """Return every key, oldest first."""
        with ThreadPoolExecutor(max_workers=READERS) as pool:
            rings = list(pool.map(self.ring, range(directory.shards)))
        found = [record for ring in rings for record in ring.values()]
        return sorted(found, key=lambda record: (record.created_at, record.key_id))

    def record(self, directory: Directory, key_id: str) -> KeyRecord:
        """Return one key. Raise AdminRefusedError if there is none of that id."""
        check_key_id(key_id)
        record = self.ring(shard_of(key_id, directory.shards)).get(key_id)
        if record is None:
            raise UnknownNameError(f"there is no key {key_id}")
        return record

    def change_directory(self, edit: Callable[[Directory], tuple[Directory, Entry]]) -> Outcome:
        """Change the directory; `edit` may be called several times."""

        def decide(body: Mapping[str, Any]) -> Decision:
            directory, entry = edit(directories.from_body(body))
            return directories.to_body(directory), [entry]

        return self.changes.apply(self.names.directory, self.actor, decide)

    def change_ring(
        self, shard: int, edit: Callable[[KeyRing], tuple[KeyRing, Sequence[Entry]]]
    ) -> Outcome:
        """Change a shard of the keyring; `edit` may be called several times."""

        def decide(body: Mapping[str, Any]) -> Decision:
            ring, entries = edit(keyrings.from_body(body))
            return keyrings.to_body(ring), entries

        return self.changes.apply(self.names.shard(shard), self.actor, decide)

    def change_users(self, edit: Callable[[Users], tuple[Users, Entry]]) -> Outcome:
        """Change the web users; `edit` may be called several times."""

        def decide(body: Mapping[str, Any]) -> Decision:
            users, entry = edit(people.from_body(body))
            return people.to_body(users), [entry]

        return self.changes.apply(self.names.users, self.actor, decide)

    def check_plan(self, plan: str | None) -> None:
        if plan is not None and plan not in self.plans:
            known = ", ".join(self.plans)
            raise AdminRefusedError(f"there is no plan {plan}: choose one of {known}")


def check_key_id(key_id: str) -> None:
    """Refuse what is no id without repeating it: it may be a whole key."""
    if KEY_SHAPE.search(key_id):
        raise UnknownNameError(
            "that is a whole key, which is not repeated here: its id is the third part, "
            "between the second and the third _"
        )
    if not KEY_ID.fullmatch(key_id):
        raise UnknownNameError(
            "there is no key of that id, and none could be: an id is 12 letters and digits"
        )


def check_name(kind: str, name: str) -> None:
    """Refuse a name that could not be part of a secret's name."""
    if not NAME.fullmatch(name):
        raise AdminRefusedError(
            f"{name!r} cannot name a {kind}: use 1 to 32 of a-z, 0-9, - and _, not - or _ first"
        )


def answered(value: dict[str, Any], *outcomes: Outcome) -> dict[str, Any]:
    """Return `value` with what the admin should know about how the changes went."""
    warnings = []
    if not all(outcome.propagated for outcome in outcomes):
        warnings.append(NOT_TOLD)
    if not all(outcome.recorded for outcome in outcomes):
        warnings.append(NOT_RECORDED)
    return value | ({"warnings": warnings} if warnings else {})
