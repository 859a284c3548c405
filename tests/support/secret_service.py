"""The methods of google.cloud.secretmanager.v1: messages in, messages out, the vault in between."""

from __future__ import annotations

import re
from typing import Any

import google_crc32c
from google.cloud import secretmanager_v1 as api
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.secret_vault import Refusal, Secret, Vault, Version

PROJECT_NUMBER = "424242424242"  # answers name a project by its number, whatever was asked for

_WORD = re.compile(r"[A-Za-z0-9_-]+")


class SecretManagerService:
    """One method for each of the API's; what is refused raises Refusal."""

    largest_page = 25_000
    corrupt_payloads = False  # a payload arrives without its last byte

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def list_secrets(self, request: Any) -> Any:
        secrets = [self._secret(secret) for secret in self._vault.secrets(request.parent)]
        matching = _filtered(secrets, request.filter)
        page, token = self._page(matching, request)
        return api.ListSecretsResponse(secrets=page, next_page_token=token)

    def create_secret(self, request: Any) -> Any:
        replication = request.secret.replication
        if "automatic" not in replication and "user_managed" not in replication:
            raise Refusal("INVALID_ARGUMENT", "Field [secret.replication] is required.")
        labels = request.secret.labels
        return self._secret(self._vault.create(request.parent, request.secret_id, labels))

    def get_secret(self, request: Any) -> Any:
        return self._secret(self._vault.get(request.name))

    def update_secret(self, request: Any) -> Any:
        paths = list(request.update_mask.paths)
        if not paths or set(paths) - {"version_aliases", "labels"}:
            raise Refusal("INVALID_ARGUMENT", f"Field [update_mask] is invalid: {paths}.")
        secret = request.secret
        return self._secret(
            self._vault.update(
                secret.name,
                secret.etag,
                aliases=secret.version_aliases if "version_aliases" in paths else None,
                labels=secret.labels if "labels" in paths else None,
            )
        )

    def delete_secret(self, request: Any) -> Any:
        self._vault.delete(request.name, request.etag)
        return Empty()

    def add_secret_version(self, request: Any) -> Any:
        payload = request.payload
        checked = "data_crc32c" in payload
        if checked and payload.data_crc32c != google_crc32c.value(payload.data):
            raise Refusal("INVALID_ARGUMENT", "The payload's CRC32C does not match.")
        return self._version(request.parent, self._vault.add(request.parent, payload.data))

    def get_secret_version(self, request: Any) -> Any:
        path, _, wanted = request.name.rpartition("/versions/")
        return self._version(path, self._vault.version(path, wanted))

    def list_secret_versions(self, request: Any) -> Any:
        found = self._vault.versions(request.parent)
        versions = [self._version(request.parent, version) for version in found]
        page, token = self._page(_filtered(versions, request.filter), request)
        return api.ListSecretVersionsResponse(versions=page, next_page_token=token)

    def access_secret_version(self, request: Any) -> Any:
        path, _, wanted = request.name.rpartition("/versions/")
        version = self._vault.access(path, wanted)
        checksum = google_crc32c.value(version.data)
        data = version.data[:-1] if self.corrupt_payloads else version.data
        return api.AccessSecretVersionResponse(
            name=self._version(path, version).name,
            payload=api.SecretPayload(data=data, data_crc32c=checksum),
        )

    def enable_secret_version(self, request: Any) -> Any:
        return self._set_state(request, "ENABLED")

    def disable_secret_version(self, request: Any) -> Any:
        return self._set_state(request, "DISABLED")

    def destroy_secret_version(self, request: Any) -> Any:
        return self._set_state(request, "DESTROYED")

    def _set_state(self, request: Any, state: str) -> Any:
        path, _, number = request.name.rpartition("/versions/")
        return self._version(path, self._vault.set_state(path, number, state, request.etag))

    def _page(self, entries: list[Any], request: Any) -> tuple[list[Any], str]:
        start = int(request.page_token or 0)
        size = min(request.page_size or self.largest_page, self.largest_page)
        end = start + size
        return entries[start:end], str(end) if end < len(entries) else ""

    def _secret(self, secret: Secret) -> Any:
        return api.Secret(
            name=_by_number(secret.path),
            etag=secret.etag,
            labels=secret.labels,
            version_aliases=secret.aliases,
            replication={"automatic": {}},
            create_time=_timestamp(secret.created_at),
        )

    def _version(self, path: str, version: Version) -> Any:
        return api.SecretVersion(
            name=f"{_by_number(path)}/versions/{version.number}",
            state=api.SecretVersion.State[version.state],
            etag=version.etag,
            create_time=_timestamp(version.created_at),
        )


def _filtered(entries: list[Any], text: str) -> list[Any]:
    """Apply a filter of terms `name:part` and `state:STATE` joined by OR; refuse any other."""
    if not text:
        return entries
    terms = [term.partition(":") for term in text.split(" OR ")]
    if not all(field in ("name", "state") and _WORD.fullmatch(value) for field, _, value in terms):
        raise Refusal("INVALID_ARGUMENT", f"Field [filter] is invalid: {text}.")

    def matches(entry: Any) -> bool:
        return any(
            value in entry.name if field == "name" else value == entry.state.name
            for field, _, value in terms
        )

    return [entry for entry in entries if matches(entry)]


def _by_number(path: str) -> str:
    return f"projects/{PROJECT_NUMBER}/{path.split('/', 2)[2]}"


def _timestamp(seconds: float) -> Any:
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
