"""How the Secret Manager store behaves when the service or the road to it does not."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import google_crc32c
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from auth.secrets import (
    SecretNotFoundError,
    SecretPermissionError,
    SecretStoreError,
    SecretStoreUnavailableError,
    VersionInfo,
    VersionState,
)
from auth.secrets.google import GoogleSecretStore
from tests.support.secret_manager import Call, SecretManagerServer

PATH = "projects/test-project/secrets/keyring"
CANARY = b"canary-in-a-payload"


@pytest.fixture
def store(secret_manager: SecretManagerServer) -> Iterator[GoogleSecretStore]:
    """Yield an impatient store with the secret `keyring`, one version in it, `current` on it."""
    store = GoogleSecretStore(
        "test-project", emulator_host=secret_manager.host, attempt_seconds=0.5, budget_seconds=1
    )
    store.ensure_secret("keyring")
    number = store.add_version("keyring", CANARY)
    store.move_alias("keyring", "current", number, store.read_alias("keyring", "current").etag)
    secret_manager.calls.clear()
    yield store
    store.close()


USES = {
    "AccessSecretVersion": lambda store: store.access("keyring", 1),
    "GetSecret": lambda store: store.read_alias("keyring", "current"),
    "AddSecretVersion": lambda store: store.add_version("keyring", CANARY),
    "CreateSecret": lambda store: store.ensure_secret("new"),
    "DestroySecretVersion": lambda store: store.destroy_version("keyring", 1),
    "ListSecretVersions": lambda store: store.list_versions("keyring"),
    "ListSecrets": lambda store: store.list_secrets("keyring"),
    "DeleteSecret": lambda store: store.delete_secret("keyring"),
    "UpdateSecret": lambda store: store.move_alias(
        "keyring", "previous", 1, store.read_alias("keyring", "previous").etag
    ),
}


@pytest.mark.parametrize("method", USES)
@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "ABORTED"])
def test_a_passing_failure_is_tried_again(
    store: GoogleSecretStore, secret_manager: SecretManagerServer, method: str, code: str
) -> None:
    """One failed attempt of any call is not seen by the caller."""
    secret_manager.inject(method, code=code, times=1)
    USES[method](store)
    assert secret_manager.count(method) == 2


@pytest.mark.parametrize("method", USES)
def test_a_lasting_failure_ends_within_the_budget(
    store: GoogleSecretStore, secret_manager: SecretManagerServer, method: str
) -> None:
    """A server that stays away is reported after a bounded number of attempts."""
    secret_manager.inject(method, code="UNAVAILABLE", times=None)
    with pytest.raises(SecretStoreUnavailableError):
        USES[method](store)
    assert 2 <= secret_manager.count(method) <= 12


@pytest.mark.timeout(30)
@pytest.mark.parametrize("method", USES)
def test_a_server_that_never_answers_is_given_up(
    store: GoogleSecretStore, secret_manager: SecretManagerServer, method: str
) -> None:
    """Every call has a time-out of its own: none waits for an answer that does not come."""
    secret_manager.inject(method, delay_seconds=600, times=None)
    with pytest.raises(SecretStoreUnavailableError):
        USES[method](store)


@pytest.mark.parametrize("method", USES)
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("PERMISSION_DENIED", SecretPermissionError),
        ("UNAUTHENTICATED", SecretPermissionError),
        ("UNIMPLEMENTED", SecretStoreUnavailableError),
        ("CANCELLED", SecretStoreUnavailableError),
        ("DATA_LOSS", SecretStoreUnavailableError),
    ],
)
def test_every_refusal_is_one_of_ours_in_one_line(
    store: GoogleSecretStore,
    secret_manager: SecretManagerServer,
    method: str,
    code: str,
    error: type[SecretStoreError],
) -> None:
    """What does not pass by itself is raised at once, as our error, naming code and subject."""
    secret_manager.inject(method, code=code, times=None)
    with pytest.raises(error) as caught:
        USES[method](store)
    line = str(caught.value)
    assert code in line
    assert any(subject in line for subject in ("keyring", "new", "test-project"))
    assert "\n" not in line
    assert secret_manager.count(method) == 1


def test_permission_errors_name_the_permission(
    store: GoogleSecretStore, secret_manager: SecretManagerServer
) -> None:
    """Whoever reads the log learns which right is missing on what."""
    secret_manager.authorize = lambda call: call.method != "AccessSecretVersion"
    with pytest.raises(SecretPermissionError, match=r"secretmanager\.versions\.access.*keyring"):
        store.access("keyring", 1)


def test_a_disabled_version_is_listed_but_not_read(
    store: GoogleSecretStore, secret_manager: SecretManagerServer
) -> None:
    """An operator who disables a version in the console takes it out of use; it still costs."""
    secret_manager.vault.set_state(PATH, "1", "DISABLED", etag="")
    with pytest.raises(SecretNotFoundError, match="DISABLED"):
        store.access("keyring", 1)
    assert store.list_versions("keyring") == [VersionInfo(1, VersionState.DISABLED)]


def test_a_payload_damaged_on_the_way_back_is_not_handed_out(
    store: GoogleSecretStore, secret_manager: SecretManagerServer
) -> None:
    """Half a keyring is worse than none."""
    secret_manager.service.corrupt_payloads = True
    with pytest.raises(SecretStoreUnavailableError, match="CRC32C") as caught:
        store.access("keyring", 1)
    assert CANARY.decode()[:-1] not in str(caught.value)


def test_a_payload_damaged_on_the_way_there_is_not_stored(
    store: GoogleSecretStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is given the checksum to refuse by."""
    wrong = SimpleNamespace(value=lambda _data: 1)
    monkeypatch.setattr("auth.secrets.google.google_crc32c", wrong)
    with pytest.raises(SecretStoreError, match="CRC32C"):
        store.add_version("keyring", b"2")
    monkeypatch.undo()
    assert len(store.list_versions("keyring")) == 1


def test_the_checksum_is_crc32c() -> None:
    """The check value of RFC 3720's polynomial, so that client and server cannot err together."""
    assert google_crc32c.value(b"123456789") == 0xE3069283


def test_lists_longer_than_a_page_come_whole(
    store: GoogleSecretStore, secret_manager: SecretManagerServer
) -> None:
    """The server decides the size of a page; no entry is lost at its end."""
    secret_manager.service.largest_page = 2
    for _ in range(4):
        store.add_version("keyring", b"x")
    store.ensure_secret("keyring-2")
    store.ensure_secret("keyring-3")
    store.destroy_version("keyring", 2)
    assert [version.number for version in store.list_versions("keyring")] == [1, 3, 4, 5]
    assert store.list_secrets("keyring") == ["keyring", "keyring-2", "keyring-3"]


def test_the_store_finds_a_server_that_came_back(
    store: GoogleSecretStore, secret_manager: SecretManagerServer
) -> None:
    """After an outage the same store works again, without a restart of its process."""
    secret_manager.stop()
    with pytest.raises(SecretStoreUnavailableError):
        store.access("keyring", 1)
    secret_manager.start()
    deadline = time.monotonic() + 30
    while True:
        try:
            assert store.access("keyring", 1).data == CANARY
            return
        except SecretStoreUnavailableError:
            assert time.monotonic() < deadline


def test_identities_with_few_rights_can_do_their_part(
    store: GoogleSecretStore, secret_manager: SecretManagerServer
) -> None:
    """A reader needs one right; ensuring a secret that exists does not try to create it."""
    secret_manager.authorize = lambda call: call.permission == "secretmanager.versions.access"
    assert store.access("keyring", 1).data == CANARY
    assert store.access("keyring", "current").data == CANARY
    secret_manager.authorize = lambda call: call.permission == "secretmanager.secrets.get"
    store.ensure_secret("keyring")
    assert secret_manager.count("CreateSecret") == 0


def test_a_secret_created_by_another_meanwhile_is_as_good(
    store: GoogleSecretStore, secret_manager: SecretManagerServer
) -> None:
    """Two instances that start at once both find the secret there."""

    def another_is_faster(call: Call) -> bool:
        if call.method == "CreateSecret":
            secret_manager.vault.create("projects/test-project", "pepper", {})
        return True

    secret_manager.authorize = another_is_faster
    store.ensure_secret("pepper")
    assert store.list_secrets("pepper") == ["pepper"]


def test_payloads_are_not_logged_even_at_debug(
    store: GoogleSecretStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Google's client logs whole requests and answers when asked to; ours never does."""
    client_log = "google.cloud.secretmanager_v1.services.secret_manager_service.transports.grpc"
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger=client_log)
    logging.getLogger(client_log).addHandler(caplog.handler)
    try:
        store.add_version("keyring", CANARY)
        store.access("keyring", 1)
    finally:
        logging.getLogger(client_log).removeHandler(caplog.handler)
    assert CANARY.decode() not in caplog.text
    assert "Y2FuYXJ5" not in str([vars(record) for record in caplog.records])  # as base64


def test_errors_carry_no_payload(
    store: GoogleSecretStore, secret_manager: SecretManagerServer
) -> None:
    """Neither the error nor anything it was raised from repeats what was to be stored."""
    secret_manager.inject("AddSecretVersion", code="UNAVAILABLE", times=None)
    with pytest.raises(SecretStoreUnavailableError) as caught:
        store.add_version("keyring", CANARY)
    error: BaseException | None = caught.value
    while error is not None:
        assert CANARY.decode() not in f"{error!s} {error!r}"
        error = error.__cause__ or error.__context__


@pytest.fixture
def no_ambient_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the credentials that the machine may have."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.mark.usefixtures("no_ambient_credentials")
def test_without_credentials_a_store_is_refused_in_one_line() -> None:
    """A process that cannot authenticate learns it at start, and so does its log."""
    with pytest.raises(
        SecretPermissionError, match=r"project test-project: .*credentials"
    ) as caught:
        GoogleSecretStore("test-project")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_ambient_credentials")
def test_application_default_credentials_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The usual file of a service account is enough to build a store; nothing is asked yet."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {
        "type": "service_account",
        "project_id": "test-project",
        "private_key_id": "1",
        "private_key": pem,
        "client_email": "quillgate@test-project.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    file = tmp_path / "account.json"
    file.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    GoogleSecretStore("test-project").close()
