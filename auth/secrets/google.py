"""Secrets in Google Secret Manager, through its own client over gRPC.

Every attempt has a time-out, transient failures are tried again within a budget, and what then
still fails is raised as one of the protocol's errors. Payloads carry a CRC32C both ways.

Importing this module loads Google's libraries (some 50 MB): import it where a store is built, and
build the store after a fork, never before. Rights needed on a secret: `versions.access` to read
by number or alias; `secrets.get` besides for `read_alias`; `versions.add`, `secrets.update` and
`versions.destroy` to write; `secrets.create`, `.list` and `.delete` for who sets things up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import google_crc32c
import grpc
from google.api_core import exceptions, retry
from google.api_core.timeout import ConstantTimeout
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import secretmanager_v1 as api
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
    SecretManagerServiceGrpcTransport,
)
from google.iam.v1 import iam_policy_pb2

from auth.secrets import (
    AliasState,
    Right,
    SecretConflictError,
    SecretNotFoundError,
    SecretPermissionError,
    SecretStoreError,
    SecretStoreUnavailableError,
    SecretVersion,
    VersionInfo,
    VersionState,
    check_alias,
    check_name,
    check_payload,
    check_version,
)

_Answer = TypeVar("_Answer")

_PAGE = 1_000  # entries of a list that one call may bring

_TRANSIENT = (
    exceptions.ServiceUnavailable,
    exceptions.DeadlineExceeded,
    exceptions.ResourceExhausted,  # quotas are per minute, and 2 writes/s per secret
    exceptions.InternalServerError,
    exceptions.Aborted,
)
_STATES = {
    api.SecretVersion.State.ENABLED: VersionState.ENABLED,
    api.SecretVersion.State.DISABLED: VersionState.DISABLED,
}
_CHANNEL_OPTIONS = [
    # Find a server that came back within seconds; gRPC's own ceiling is two minutes.
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Drop a connection that died in silence, as while an instance was frozen, after 3 s without
    # an acknowledgement (with keepalive on, gRPC sets TCP_USER_TIMEOUT); the kernel takes minutes.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 3_000),
]


class GoogleSecretStore:
    """A SecretStore in one Google Cloud project.

    `credentials` default to Application Default Credentials. `emulator_host` ("host:port") is
    spoken to in plaintext and without credentials. A call takes at most `budget_seconds` and one
    attempt more; `move_alias` three times that.
    """

    def __init__(
        self,
        project: str,
        *,
        emulator_host: str | None = None,
        credentials: Credentials | None = None,
        attempt_seconds: float = 3.0,
        budget_seconds: float = 6.0,
    ) -> None:
        self._project = project
        self._timeout = ConstantTimeout(attempt_seconds)  # type: ignore[no-untyped-call] # theirs
        self._retry = retry.Retry(
            predicate=retry.if_exception_type(*_TRANSIENT),
            initial=0.1,
            multiplier=2.0,
            maximum=1.0,
            timeout=budget_seconds,
        )
        with _translated(f"project {project}"):
            transport = _transport(emulator_host, credentials)
            self._client = api.SecretManagerServiceClient(transport=transport)
        # At DEBUG the client logs requests and answers whole, payloads included.
        logging.getLogger(SecretManagerServiceGrpcTransport.__module__).addFilter(_nothing)

    def ensure_secret(self, name: str) -> None:
        try:
            self._get(name)  # first, because creating needs a right that most identities lack
        except (SecretNotFoundError, SecretPermissionError):  # of a secret that may not be there
            request = api.CreateSecretRequest(
                parent=f"projects/{self._project}",
                secret_id=name,
                secret=api.Secret(replication=api.Replication(automatic={})),
            )
            with _translated(f"secret {name}"), suppress(exceptions.AlreadyExists):
                self._call(self._client.create_secret, request)

    def access(self, name: str, version: int | str) -> SecretVersion:
        check_version(version)
        what = f"secret {name} version {version}"
        request = api.AccessSecretVersionRequest(name=f"{self._path(name)}/versions/{version}")
        with _translated(what):
            try:
                answer = self._call(self._client.access_secret_version, request)
            except (exceptions.FailedPrecondition, exceptions.InvalidArgument) as exc:
                raise SecretNotFoundError(f"{what}: {_line(exc)}") from exc
        payload = answer.payload
        if payload.data_crc32c != google_crc32c.value(payload.data):
            raise SecretStoreUnavailableError(f"{what}: damaged on the way, its CRC32C differs")
        return SecretVersion(_number(answer.name), payload.data)

    def read_alias(self, name: str, alias: str) -> AliasState:
        secret = self._get(name)
        return AliasState(secret.version_aliases.get(alias), secret.etag)

    def add_version(self, name: str, data: bytes) -> int:
        check_payload(name, data)
        request = api.AddSecretVersionRequest(
            parent=self._path(name),
            payload=api.SecretPayload(data=data, data_crc32c=google_crc32c.value(data)),
        )
        with _translated(f"secret {name}"):
            # An attempt whose answer was lost leaves a version that no alias will ever name.
            return _number(self._call(self._client.add_secret_version, request).name)

    def move_alias(self, name: str, alias: str, number: int, etag: str) -> None:
        # An attempt whose outcome is unknown is looked into, not just repeated: the second one
        # would clash with the success of the first and report a conflict that is none.
        check_alias(alias)
        what = f"secret {name}: alias {alias}"
        for attempt in range(3):
            secret = self._get(name)
            if attempt and secret.version_aliases.get(alias) == number:
                return
            if secret.etag != etag:  # an empty one, too: the server would take it for consent
                if attempt:
                    break
                raise SecretConflictError(f"{what} was moved by another")
            aliases = {**secret.version_aliases, alias: number}
            request = api.UpdateSecretRequest(
                secret=api.Secret(name=self._path(name), etag=etag, version_aliases=aliases),
                update_mask={"paths": ["version_aliases"]},
            )
            with _translated(what):
                try:
                    self._client.update_secret(request, retry=None, timeout=self._timeout)
                    return
                except exceptions.FailedPrecondition as exc:
                    if not attempt:
                        raise SecretConflictError(f"{what} was moved by another") from exc
                except _TRANSIENT:
                    time.sleep(0.2 * 2**attempt)
        raise SecretStoreUnavailableError(f"{what} may or may not have moved to {number}")

    def destroy_version(self, name: str, number: int) -> None:
        request = api.DestroySecretVersionRequest(name=f"{self._path(name)}/versions/{number}")
        already_destroyed = suppress(exceptions.FailedPrecondition)
        with _translated(f"secret {name} version {number}"), already_destroyed:
            self._call(self._client.destroy_secret_version, request)

    def list_versions(self, name: str) -> list[VersionInfo]:
        request = api.ListSecretVersionsRequest(
            parent=self._path(name), filter="state:ENABLED OR state:DISABLED", page_size=_PAGE
        )
        with _translated(f"secret {name}"):
            versions = list(self._call(self._client.list_secret_versions, request))
        return sorted(
            VersionInfo(_number(version.name), _STATES[version.state])
            for version in versions
            if version.state in _STATES
        )

    def list_secrets(self, prefix: str) -> list[str]:
        request = api.ListSecretsRequest(
            parent=f"projects/{self._project}",
            filter=f"name:{prefix}" if prefix else "",  # matches anywhere in a name
            page_size=_PAGE,
        )
        with _translated(f"project {self._project}"):
            secrets = list(self._call(self._client.list_secrets, request))
        names = (secret.name.rpartition("/")[2] for secret in secrets)
        return sorted(name for name in names if name.startswith(prefix))

    def delete_secret(self, name: str) -> None:
        request = api.DeleteSecretRequest(name=self._path(name))
        with _translated(f"secret {name}"), suppress(exceptions.NotFound):
            self._call(self._client.delete_secret, request)

    def rights(self, name: str) -> frozenset[Right]:
        request = iam_policy_pb2.TestIamPermissionsRequest(
            resource=self._path(name), permissions=[one.permission for one in Right]
        )
        try:
            with _translated(f"secret {name}"):
                held = self._call(self._client.test_iam_permissions, request).permissions
        except (SecretNotFoundError, SecretPermissionError):
            return frozenset()
        return frozenset(one for one in Right if one.permission in held)

    def close(self) -> None:
        self._client.transport.close()  # type: ignore[no-untyped-call] # theirs

    def _path(self, name: str) -> str:
        check_name(name)
        return f"projects/{self._project}/secrets/{name}"

    def _get(self, name: str) -> api.Secret:
        with _translated(f"secret {name}"):
            return self._call(self._client.get_secret, api.GetSecretRequest(name=self._path(name)))

    def _call(self, method: Callable[..., _Answer], request: object) -> _Answer:
        return method(request, retry=self._retry, timeout=self._timeout)


def _transport(
    emulator_host: str | None, credentials: Credentials | None
) -> SecretManagerServiceGrpcTransport:
    if emulator_host is not None:
        options = [*_CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)]
        channel = grpc.insecure_channel(emulator_host, options=options)
        return SecretManagerServiceGrpcTransport(channel=channel)

    def secure_channel(host: str, *, options: list[Any], **settings: Any) -> Any:
        options = [*options, *_CHANNEL_OPTIONS]
        return SecretManagerServiceGrpcTransport.create_channel(host, options=options, **settings)

    return SecretManagerServiceGrpcTransport(
        credentials=credentials, channel=secure_channel, always_use_jwt_access=True
    )


def _number(resource_name: str) -> int:
    return int(resource_name.rpartition("/")[2])


def _nothing(_record: logging.LogRecord) -> bool:
    return False


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn the errors of Google's libraries into those of the protocol."""
    try:
        yield
    except (exceptions.GoogleAPIError, GoogleAuthError) as exc:
        cause = exc.cause if isinstance(exc, exceptions.RetryError) else exc
        raise _error_class(cause)(f"{what}: {_line(cause)}") from exc


def _error_class(exc: Exception) -> type[SecretStoreError]:
    if isinstance(exc, exceptions.NotFound):
        return SecretNotFoundError
    if isinstance(exc, (exceptions.Forbidden, exceptions.Unauthorized, GoogleAuthError)):
        return SecretPermissionError
    return SecretStoreUnavailableError


def _line(exc: Exception) -> str:
    """Return what went wrong in one line; the server's words name resources, never payloads."""
    status = getattr(exc, "grpc_status_code", None)
    words = " ".join(str(getattr(exc, "message", exc)).split())[:500]
    return f"{status.name}: {words}" if status else words
