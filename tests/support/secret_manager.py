"""A Secret Manager server that speaks gRPC to the real client, as Google documents it.

In tests: the fixtures `secret_manager` (the server), `open_secret_store` (opens stores over one
place, each as another process would; runs the test once for every kind of store) and
`secret_store` (one of them).

By hand, secrets in memory only, gone when it ends:

    python -m tests.support.secret_manager --port 9090
    SECRETS=gcp:local SECRET_MANAGER_EMULATOR_HOST=127.0.0.1:9090 python -m auth ...
"""

from __future__ import annotations

import argparse
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from auth.secrets import SecretStore
from tests.support.secret_vault import Refusal, Vault

if TYPE_CHECKING:  # every test run loads this module; few need gRPC
    import grpc

SERVICE = "google.cloud.secretmanager.v1.SecretManagerService"

PERMISSIONS = {
    "ListSecrets": "secretmanager.secrets.list",
    "CreateSecret": "secretmanager.secrets.create",
    "GetSecret": "secretmanager.secrets.get",
    "UpdateSecret": "secretmanager.secrets.update",
    "DeleteSecret": "secretmanager.secrets.delete",
    "AddSecretVersion": "secretmanager.versions.add",
    "GetSecretVersion": "secretmanager.versions.get",
    "ListSecretVersions": "secretmanager.versions.list",
    "AccessSecretVersion": "secretmanager.versions.access",
    "EnableSecretVersion": "secretmanager.versions.enable",
    "DisableSecretVersion": "secretmanager.versions.disable",
    "DestroySecretVersion": "secretmanager.versions.destroy",
    "TestIamPermissions": "",  # anybody may ask what they may do
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call that arrived: who asks (the bearer token, if any), for what, on what."""

    identity: str
    method: str
    permission: str
    resource: str


@dataclass(slots=True)
class _Fault:
    method: str | None
    code: str | None
    delay_seconds: float
    applied: bool
    times: int | None


class SecretManagerServer:
    """A server on loopback that can be slow, wrong, stale, strict, and stopped and started."""

    def __init__(self, port: int = 0) -> None:
        from tests.support.secret_service import SecretManagerService

        self.vault = Vault()
        self.service = SecretManagerService(self.vault)
        self.calls: list[Call] = []
        self.authorize: Callable[[Call], bool] = lambda _call: True
        self._port = port
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server: grpc.Server | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        """Listen; after a `stop` again on the same port and with the same secrets.

        In plaintext unless there are `credentials`: a client sends none of its own then.
        """
        import grpc
        from google.cloud import secretmanager_v1 as api
        from google.iam.v1 import iam_policy_pb2 as iam

        handlers = {
            method: grpc.unary_unary_rpc_method_handler(
                partial(self._answer, method),
                request_deserializer=iam.TestIamPermissionsRequest.FromString
                if method == "TestIamPermissions"
                else getattr(api, f"{method}Request").deserialize,
                response_serializer=_serialized,
            )
            for method in PERMISSIONS
        }
        self._stopping.clear()
        self._server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        self._port = (
            self._server.add_insecure_port(self.host)
            if credentials is None
            else self._server.add_secure_port(self.host, credentials)
        )
        self._server.start()

    def stop(self) -> None:
        """Drop every connection and stop listening; the secrets stay."""
        self._stopping.set()
        if self._server is not None:
            self._server.stop(grace=None).wait()
            self._server = None

    def inject(
        self,
        method: str | None = None,
        *,
        code: str | None = None,
        delay_seconds: float = 0.0,
        applied: bool = False,
        times: int | None = 1,
    ) -> None:
        """Make the next `times` calls (None: all) of a method (None: any) slow, or fail.

        `code` names a gRPC status. `applied`: the call takes effect, and only its answer is lost.
        """
        with self._lock:
            self._faults.append(_Fault(method, code, delay_seconds, applied, times))

    def heal(self) -> None:
        """Take back every injected fault."""
        with self._lock:
            self._faults.clear()

    def count(self, method: str) -> int:
        """Return how many calls of a method have arrived, the failed ones included."""
        return sum(call.method == method for call in self.calls)

    def _answer(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        metadata = dict(context.invocation_metadata())
        identity = str(metadata.get("authorization", "")).removeprefix("Bearer ")
        call = Call(identity, method, PERMISSIONS[method], _resource(request))
        self.calls.append(call)
        fault = self._next_fault(method)
        self._stopping.wait(fault.delay_seconds)
        try:
            if method == "TestIamPermissions":
                return self._permissions(call, request)
            if not self.authorize(call):
                message = f"Permission '{call.permission}' denied for resource '{call.resource}'"
                raise Refusal("PERMISSION_DENIED", f"{message} (or it may not exist).")
            if fault.code and not fault.applied:
                raise Refusal(fault.code, "injected before the call took effect")
            answer = getattr(self.service, _snake(method))(request)
            if fault.code:
                raise Refusal(fault.code, "injected after the call took effect")
        except Refusal as refusal:
            import grpc

            context.abort(grpc.StatusCode[refusal.code], refusal.message)
        return answer

    def _permissions(self, call: Call, request: Any) -> Any:
        """Answer with those of the permissions that the caller has; none on what is not there."""
        from google.iam.v1 import iam_policy_pb2 as iam

        try:
            self.vault.get(request.resource)
        except Refusal:
            return iam.TestIamPermissionsResponse()
        held = [
            permission
            for permission in request.permissions
            if self.authorize(replace(call, permission=permission))
        ]
        return iam.TestIamPermissionsResponse(permissions=held)

    def _next_fault(self, method: str) -> _Fault:
        with self._lock:
            for fault in self._faults:
                if fault.method in (None, method):
                    if fault.times is not None:
                        fault.times -= 1
                        if not fault.times:
                            self._faults.remove(fault)
                    return fault
        return _Fault(method, None, 0.0, applied=False, times=0)


def _resource(request: Any) -> str:
    target = request.secret if hasattr(request, "update_mask") else request
    named = getattr(target, "name", "") or getattr(target, "parent", "")
    return str(named or getattr(target, "resource", ""))


def _snake(method: str) -> str:
    return re.sub("(?<!^)(?=[A-Z])", "_", method).lower()


def _serialized(answer: Any) -> bytes:
    return getattr(answer, "_pb", answer).SerializeToString()  # messages of proto-plus wrap one


@pytest.fixture
def secret_manager() -> Iterator[SecretManagerServer]:
    """Yield a running server without secrets."""
    server = SecretManagerServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["file", "google"])
def open_secret_store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], SecretStore]]:
    """Yield a function that opens one more store over the same secrets, at first none."""
    with ExitStack() as stack:

        def open_file_store() -> SecretStore:
            from auth.secrets.file import FileSecretStore

            return FileSecretStore(tmp_path / "secrets")

        def open_google_store() -> SecretStore:
            from auth.secrets.google import GoogleSecretStore

            server = request.getfixturevalue("secret_manager")
            store = GoogleSecretStore("test-project", emulator_host=server.host)
            stack.callback(store.close)
            return store

        yield open_file_store if request.param == "file" else open_google_store


@pytest.fixture
def secret_store(open_secret_store: Callable[[], SecretStore]) -> SecretStore:
    """Return a store without secrets; the test runs once for every kind of store."""
    return open_secret_store()


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.secret_manager",
        description="Serve Secret Manager on 127.0.0.1 with the secrets in memory.",
    )
    parser.add_argument("--port", type=int, default=9090)
    server = SecretManagerServer(parser.parse_args().port)
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before gRPC's threads, which inherit it
    server.start()
    print(f"export SECRETS=gcp:local SECRET_MANAGER_EMULATOR_HOST={server.host}", flush=True)  # noqa: T201 - a command line
    signal.sigwait(ends)
    server.stop()


if __name__ == "__main__":
    main()
