"""Who asks the test's Secret Manager: stores of named identities, and the policy over them."""

from __future__ import annotations

from collections import namedtuple
from typing import Any
from unittest import mock

import grpc

from auth.names import Names
from auth.rights import (
    CREATOR_PERMISSIONS,
    ROLES,
    Binding,
    Identity,
    bindings,
    web_users_bindings,
)
from auth.secrets import google
from tests.support.secret_manager import Call, SecretManagerServer

PROJECT = "test-project"

_Details = namedtuple("_Details", "method timeout metadata credentials wait_for_ready compression")  # noqa: PYI024 - gRPC asks for this shape


class _Bearer(grpc.UnaryUnaryClientInterceptor):
    """Sends an identity's token with every call."""

    def __init__(self, identity: str) -> None:
        self._token = ("authorization", f"Bearer {identity}")

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = [*(details.metadata or ()), self._token]
        return continuation(
            _Details(details.method, details.timeout, metadata, None, None, None), request
        )


def store_of(server: SecretManagerServer, identity: str) -> google.GoogleSecretStore:
    """Return a store whose calls carry the identity's token."""
    plain = grpc.insecure_channel

    def channel(*args: Any, **how: Any) -> Any:
        return grpc.intercept_channel(plain(*args, **how), _Bearer(identity))

    with mock.patch.object(google.grpc, "insecure_channel", channel):
        return google.GoogleSecretStore(PROJECT, emulator_host=server.host)


class Policy:
    """Allows what the bindings of auth/rights.py allow, and remembers what was used of them."""

    def __init__(self, names: Names) -> None:
        self._bindings, self._optional = bindings(names), web_users_bindings(names)
        self.web_users = False  # whether the API was given what lets it keep web users too
        self.used: set[tuple[Binding, str]] = set()
        self.taken: tuple[Binding, str] | None = None  # a permission that is not given
        self.given: Binding | None = None  # a binding too many

    def __call__(self, call: Call) -> bool:
        if call.permission in CREATOR_PERMISSIONS:
            return call.identity == Identity.OPERATOR or (
                self.web_users and call.identity == Identity.API
            )
        name = call.resource.split("/")[3]
        allowed = False
        optional = self._optional if self.web_users else ()
        for one in (*self._bindings, *optional, *([self.given] if self.given else [])):
            held = call.permission in {right.permission for right in ROLES[one.role]}
            bound = one.identity == call.identity and name.startswith(one.begins)
            if held and bound and (one, call.permission) != self.taken:
                allowed = True
                if call.method != "TestIamPermissions":
                    self.used.add((one, call.permission))
        return allowed
