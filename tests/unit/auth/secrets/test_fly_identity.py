"""A program on Fly.io reads Secret Manager as a service account, and no key exists anywhere."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.auth.credentials import CredentialsWithRegionalAccessBoundary
from google.auth.exceptions import RefreshError
from google.auth.transport.grpc import AuthMetadataPlugin
from google.auth.transport.requests import Request
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
    SecretManagerServiceGrpcTransport,
)

from auth.config import AuthSettings, SettingsError, Workload
from auth.secrets import SecretStoreError
from auth.secrets.fly_identity import FlyTokens, credentials
from auth.secrets.google import GoogleSecretStore
from tests.support.fly_platform import ACCOUNT, PROVIDER, FlyPlatform

WORKLOAD = Workload(PROVIDER, ACCOUNT)


@pytest.fixture
def fly() -> Iterator[FlyPlatform]:
    with (
        tempfile.TemporaryDirectory(prefix="qg-") as folder,
        FlyPlatform(Path(folder)).running() as it,
    ):
        yield it


@pytest.fixture
def identity(fly, monkeypatch):
    """Return the credentials that a machine of this platform would have."""
    # google-auth asks another Google address, in the background, where a token may be used.
    monkeypatch.setattr(
        CredentialsWithRegionalAccessBoundary,
        "_is_regional_access_boundary_lookup_required",
        lambda _self: False,
    )
    return credentials(
        WORKLOAD,
        socket_path=fly.socket_path,
        token_url=f"{fly.google_url}/v1/token",
        iam_url=fly.google_url,
    )


@pytest.fixture
def store(secret_manager, identity, monkeypatch) -> Iterator[GoogleSecretStore]:
    """Yield a store that speaks to the local server as to Google, TLS left out."""

    def local_channel(_host, *, options, credentials, **_settings):
        caller = grpc.metadata_call_credentials(AuthMetadataPlugin(credentials, Request()))
        both = grpc.composite_channel_credentials(grpc.local_channel_credentials(), caller)
        return grpc.secure_channel(secret_manager.host, both, options=options)

    monkeypatch.setattr(SecretManagerServiceGrpcTransport, "create_channel", local_channel)
    secret_manager.stop()
    secret_manager.start(credentials=grpc.local_server_credentials())
    made = GoogleSecretStore("test-project", credentials=identity, budget_seconds=0.5)
    yield made
    made.close()


def test_the_store_is_read_as_the_service_account(fly, secret_manager, store):
    """Socket, exchange, impersonation, then a secret: each call carries what IAM gave, and no more.

    One token serves many calls.
    """
    secret_manager.authorize = lambda call: call.identity in fly.access_tokens
    store.ensure_secret("quillgate-users")
    number = store.add_version("quillgate-users", b"users")
    assert store.access("quillgate-users", number).data == b"users"
    assert {call.identity for call in secret_manager.calls} == fly.access_tokens
    assert (fly.asked, fly.exchanged, len(fly.access_tokens)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("app", "another-app"), ("issuer", "https://oidc.fly.io/personal"), ("lifetime_seconds", -60)],
)
def test_another_app_organisation_or_time_gets_nothing(
    fly, secret_manager, store, attribute, value
):
    """What Google's provider refuses is one line that says so, without any token in it."""
    setattr(fly, attribute, value)
    with pytest.raises(SecretStoreError, match=r"invalid_grant|unauthorized_client") as caught:
        store.access("quillgate-users", 1)
    assert fly.access_tokens == set()
    assert secret_manager.calls == []
    assert "\n" not in str(caught.value)
    assert "eyJ" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body"), [(500, "broken"), (200, ""), (200, "no-token"), (200, "a.b.c")]
)
def test_a_socket_that_answers_badly_is_one_line(fly, identity, status, body):
    """Whatever the socket says, it is said that it was the socket, and not repeated."""
    fly.socket_status, fly.socket_body = status, body
    with pytest.raises(RefreshError, match=r"Fly\.io's oidc token cannot be had") as caught:
        identity.refresh(Request())
    assert "broken" not in str(caught.value)


def test_outside_a_fly_machine_it_says_so(tmp_path):
    """Without the socket the error names the path that was looked at."""
    tokens = FlyTokens("https://audience", socket_path=tmp_path / "api", clock=lambda: 0.0)
    with pytest.raises(RefreshError, match=r"/api: .*No such file"):
        tokens.get_subject_token(None, None)


def test_a_token_is_kept_until_shortly_before_it_ends(fly):
    """Google's library does not keep it: without this every exchange would ask the socket."""
    now = time.time()
    tokens = FlyTokens("https://audience", socket_path=fly.socket_path, clock=lambda: now)
    first = tokens.get_subject_token(None, None)
    now += 300
    assert tokens.get_subject_token(None, None) == first
    assert fly.asked == 1
    now += 200
    tokens.get_subject_token(None, None)
    assert fly.asked == 2


def test_the_settings_name_the_provider():
    """Both variables are read and checked; an account without a provider stops the start."""
    environ = {"WORKLOAD_PROVIDER": PROVIDER, "WORKLOAD_SERVICE_ACCOUNT": ACCOUNT}
    assert AuthSettings.from_env(environ).workload == WORKLOAD
    assert AuthSettings.from_env({"WORKLOAD_PROVIDER": PROVIDER}).workload == Workload(
        PROVIDER, None
    )
    assert AuthSettings.from_env({}).workload is None
    for wrong in (
        {"WORKLOAD_SERVICE_ACCOUNT": ACCOUNT},
        {"WORKLOAD_PROVIDER": f"//iam.googleapis.com/{PROVIDER}"},
        {**environ, "WORKLOAD_SERVICE_ACCOUNT": "somebody@example.com"},
    ):
        with pytest.raises(SettingsError, match="WORKLOAD_"):
            AuthSettings.from_env(wrong)
