"""What Google Secret Manager remembers: secrets, versions, aliases, etags; no network here.

Behaviour follows docs.cloud.google.com/secret-manager as of 2026 (etags, consistency, quotas,
filtering, version states). Where the documentation is silent the stricter answer is given, so
that what passes here does not lean on luck. Everything is refused by raising Refusal.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

MAX_PAYLOAD_BYTES = 65_536
MAX_ALIASES = 50

_SECRET_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")


def _new_etag() -> str:
    return f'"{uuid.uuid4().hex[:14]}"'  # the quotes are part of Google's etags


class Refusal(Exception):  # noqa: N818 - it is an answer of the server, not a fault of ours
    """An error answer: the name of a gRPC status code, and words for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Version:
    """One version; `data` is None once it is destroyed."""

    number: int
    data: bytes | None = field(repr=False)
    state: str = "ENABLED"
    etag: str = field(default_factory=_new_etag)
    created_at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret; replaced, never changed, so that an old view of it stays what it was."""

    path: str
    labels: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[int, Version] = field(default_factory=dict)
    etag: str = field(default_factory=_new_etag)
    created_at: float = field(default_factory=time.time)


class Vault:
    """The secrets of all projects, by `projects/<project>/secrets/<id>`.

    Only adding a version and then accessing it by number is strongly consistent. `hold` freezes
    what every other read sees, `release` lets it catch up.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._secrets: dict[str, Secret] = {}
        self._held: dict[str, Secret] | None = None
        self._held_metadata = False

    def hold(self, *, metadata: bool = False) -> None:
        """Freeze the view of aliases, `latest`, states and lists; with `metadata` GetSecret too."""
        with self._lock:
            self._held = dict(self._secrets)
            self._held_metadata = metadata

    def release(self) -> None:
        with self._lock:
            self._held = None
            self._held_metadata = False

    def create(self, parent: str, secret_id: str, labels: Mapping[str, str]) -> Secret:
        path = f"{parent}/secrets/{secret_id}"
        if not _SECRET_ID.fullmatch(secret_id):
            raise Refusal("INVALID_ARGUMENT", f"The provided Secret ID [{secret_id}] is invalid.")
        with self._lock:
            if path in self._secrets:
                raise Refusal("ALREADY_EXISTS", f"Secret [{path}] already exists.")
            return self._put(Secret(path, labels=dict(labels)))

    def get(self, path: str) -> Secret:
        with self._lock:
            return _found(self._view(metadata=True), path)

    def secrets(self, parent: str) -> list[Secret]:
        with self._lock:
            secrets = sorted(self._view().values(), key=lambda secret: secret.path)
        return [secret for secret in secrets if secret.path.startswith(f"{parent}/secrets/")]

    def update(
        self,
        path: str,
        etag: str,
        *,
        aliases: Mapping[str, int] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Secret:
        """Replace the maps that are given; an empty etag overwrites whatever is there."""
        with self._lock:
            secret = _found(self._secrets, path)
            _match(etag, secret.etag, path)
            if aliases is not None:
                _check_aliases(secret, aliases)
                secret = replace(secret, aliases=dict(aliases))
            if labels is not None:
                secret = replace(secret, labels=dict(labels))
            return self._put(replace(secret, etag=_new_etag()))

    def delete(self, path: str, etag: str) -> None:
        with self._lock:
            _match(etag, _found(self._secrets, path).etag, path)
            del self._secrets[path]

    def add(self, path: str, data: bytes) -> Version:
        if not data:
            raise Refusal("INVALID_ARGUMENT", "Field [payload] is required.")
        if len(data) > MAX_PAYLOAD_BYTES:
            raise Refusal("INVALID_ARGUMENT", f"Payload exceeds {MAX_PAYLOAD_BYTES} bytes.")
        with self._lock:
            secret = _found(self._secrets, path)
            version = Version(len(secret.versions) + 1, data)
            self._put(replace(secret, versions={**secret.versions, version.number: version}))
            return version

    def version(self, path: str, wanted: str) -> Version:
        """Return a version by its number, by an alias, or as `latest`, whatever its state."""
        with self._lock:
            view = self._view()
            if not wanted.isdecimal():
                secret = _found(view, path)
                number = max(secret.versions, default=0)
                if wanted != "latest":
                    number = secret.aliases.get(wanted, 0)
            else:
                number = int(wanted)
                secret = view.get(path) or _found(self._secrets, path)
                if number not in secret.versions:  # added since the view was held: a strong read
                    secret = _found(self._secrets, path)
            if number not in secret.versions:
                message = f"Secret Version [{path}/versions/{wanted}] not found."
                raise Refusal("NOT_FOUND", message)
            return secret.versions[number]

    def access(self, path: str, wanted: str) -> Version:
        version = self.version(path, wanted)
        if version.state != "ENABLED":
            name = f"{path}/versions/{version.number}"
            message = f"Secret Version [{name}] is in {version.state} state."
            raise Refusal("FAILED_PRECONDITION", message)
        return version

    def versions(self, path: str) -> list[Version]:
        """Return all versions ever added, newest first."""
        with self._lock:
            versions = _found(self._view(), path).versions
        return [versions[number] for number in sorted(versions, reverse=True)]

    def set_state(self, path: str, number: str, state: str, etag: str) -> Version:
        with self._lock:
            secret = _found(self._secrets, path)
            name = f"{path}/versions/{number}"
            if not number.isdecimal() or int(number) not in secret.versions:
                raise Refusal("NOT_FOUND", f"Secret Version [{name}] not found.")
            version = secret.versions[int(number)]
            _match(etag, version.etag, name)
            if version.state == "DESTROYED":
                raise Refusal("FAILED_PRECONDITION", f"Secret Version [{name}] is DESTROYED.")
            data = None if state == "DESTROYED" else version.data
            version = replace(version, state=state, data=data, etag=_new_etag())
            self._put(replace(secret, versions={**secret.versions, version.number: version}))
            return version

    def _view(self, *, metadata: bool = False) -> Mapping[str, Secret]:
        if self._held is None or (metadata and not self._held_metadata):
            return self._secrets
        return self._held

    def _put(self, secret: Secret) -> Secret:
        self._secrets[secret.path] = secret
        return secret


def _found(secrets: Mapping[str, Secret], path: str) -> Secret:
    if path not in secrets:
        raise Refusal("NOT_FOUND", f"Secret [{path}] not found.")
    return secrets[path]


def _match(given: str, stored: str, name: str) -> None:
    if given and given != stored:
        raise Refusal("FAILED_PRECONDITION", f"The etag of [{name}] does not match.")


def _check_aliases(secret: Secret, aliases: Mapping[str, int]) -> None:
    if len(aliases) > MAX_ALIASES:
        raise Refusal("INVALID_ARGUMENT", f"More than {MAX_ALIASES} version aliases.")
    for alias, number in aliases.items():
        if not _ALIAS.fullmatch(alias) or alias in {"latest", "NEW"}:
            raise Refusal("INVALID_ARGUMENT", f"Version alias [{alias}] is invalid.")
        if number not in secret.versions:
            raise Refusal("INVALID_ARGUMENT", f"Version alias [{alias}] names no version.")
