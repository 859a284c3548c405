"""The Secret Manager server of the tests answers the real client as the documentation says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import secretmanager_v1 as api
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
    SecretManagerServiceGrpcTransport,
)

from tests.support.secret_manager import Call, SecretManagerServer

PARENT = "projects/test-project"
PATH = f"{PARENT}/secrets/keyring"


@pytest.fixture
def client(secret_manager: SecretManagerServer) -> Iterator[Any]:
    """Yield Google's client with the secret `keyring` and one version in it."""
    channel = grpc.insecure_channel(secret_manager.host)
    transport = SecretManagerServiceGrpcTransport(channel=channel)
    client = api.SecretManagerServiceClient(transport=transport)
    create(client, "keyring")
    client.add_secret_version(parent=PATH, payload={"data": b"1"})
    yield client
    transport.close()


def create(client: Any, name: str) -> Any:
    return client.create_secret(
        parent=PARENT, secret_id=name, secret={"replication": {"automatic": {}}}
    )


def update(client: Any, **fields: Any) -> Any:
    paths = [field for field in fields if field != "etag"]
    return client.update_secret(secret={"name": PATH, **fields}, update_mask={"paths": paths})


def test_a_secret_is_created_once(client: Any) -> None:
    """A name in use is ALREADY_EXISTS; one without replication INVALID_ARGUMENT."""
    with pytest.raises(exceptions.AlreadyExists):
        create(client, "keyring")
    with pytest.raises(exceptions.InvalidArgument):
        client.create_secret(parent=PARENT, secret_id="other", secret={})
    with pytest.raises(exceptions.InvalidArgument):
        create(client, "per.iod")


def test_answers_name_the_project_by_number(client: Any) -> None:
    """As Google's do: a client that compares names to those it asked for would fail here too."""
    assert client.get_secret(name=PATH).name != PATH
    assert client.get_secret(name=PATH).name.endswith("/secrets/keyring")
    assert client.access_secret_version(name=f"{PATH}/versions/1").name.endswith("/versions/1")


def test_an_etag_that_differs_is_failed_precondition(client: Any) -> None:
    """On the secret and on its versions; a missing one is consent."""
    etag = client.get_secret(name=PATH).etag
    update(client, version_aliases={"current": 1}, etag=etag)
    with pytest.raises(exceptions.FailedPrecondition):
        update(client, version_aliases={}, etag=etag)
    assert client.get_secret(name=PATH).version_aliases == {"current": 1}
    update(client, version_aliases={})
    assert client.get_secret(name=PATH).version_aliases == {}
    with pytest.raises(exceptions.FailedPrecondition):
        client.destroy_secret_version({"name": f"{PATH}/versions/1", "etag": '"other"'})
    with pytest.raises(exceptions.FailedPrecondition):
        client.delete_secret({"name": PATH, "etag": etag})


def test_etags_of_secret_and_version_are_independent(client: Any) -> None:
    """Adding and disabling a version leaves the secret's etag; a state change renews its own."""
    etag = client.get_secret(name=PATH).etag
    version = client.add_secret_version(parent=PATH, payload={"data": b"2"})
    disabled = client.disable_secret_version(name=f"{PATH}/versions/2")
    assert disabled.etag != version.etag
    assert client.get_secret(name=PATH).etag == etag


def test_states_go_both_ways_until_destroyed(client: Any) -> None:
    """ENABLED and DISABLED alternate, DESTROYED is final; only ENABLED is accessible."""
    name = f"{PATH}/versions/1"
    client.disable_secret_version(name=name)
    with pytest.raises(exceptions.FailedPrecondition, match="DISABLED"):
        client.access_secret_version(name=name)
    client.enable_secret_version(name=name)
    assert client.access_secret_version(name=name).payload.data == b"1"
    client.destroy_secret_version(name=name)
    with pytest.raises(exceptions.FailedPrecondition, match="DESTROYED"):
        client.access_secret_version(name=name)
    with pytest.raises(exceptions.FailedPrecondition):
        client.enable_secret_version(name=name)
    assert client.get_secret_version(name=name).state == api.SecretVersion.State.DESTROYED


def test_latest_does_not_fall_back(client: Any) -> None:
    """`latest` is the version created last, also when it is disabled."""
    client.add_secret_version(parent=PATH, payload={"data": b"2"})
    client.disable_secret_version(name=f"{PATH}/versions/2")
    with pytest.raises(exceptions.FailedPrecondition):
        client.access_secret_version(name=f"{PATH}/versions/latest")
    assert client.get_secret_version(name=f"{PATH}/versions/latest").name.endswith("/2")


@pytest.mark.parametrize(
    "aliases",
    [{"latest": 1}, {"NEW": 1}, {"1": 1}, {"a" * 64: 1}, {f"a{i}": 1 for i in range(51)}],
)
def test_aliases_outside_the_rules_are_refused(client: Any, aliases: dict[str, int]) -> None:
    """At most 50, of 63 characters that begin with a letter, `latest` and `NEW` reserved."""
    with pytest.raises(exceptions.InvalidArgument):
        update(client, version_aliases=aliases)


def test_updates_touch_what_the_mask_names(client: Any) -> None:
    """A map in the mask is replaced whole, one outside it stays; no mask is refused."""
    update(client, version_aliases={"current": 1, "previous": 1})
    update(client, labels={"app": "quillgate"})
    update(client, version_aliases={"current": 1})
    secret = client.get_secret(name=PATH)
    assert (secret.version_aliases, secret.labels) == ({"current": 1}, {"app": "quillgate"})
    with pytest.raises(exceptions.InvalidArgument):
        client.update_secret(secret={"name": PATH}, update_mask={"paths": []})


@pytest.mark.parametrize("payload", [{}, {"data": bytes(65_537)}, {"data": b"x", "data_crc32c": 1}])
def test_payloads_outside_the_rules_are_refused(client: Any, payload: dict[str, Any]) -> None:
    """Empty, over 64 KiB, or with a checksum that does not match."""
    with pytest.raises(exceptions.InvalidArgument):
        client.add_secret_version(parent=PATH, payload=payload)
    assert len(list(client.list_secret_versions(parent=PATH))) == 1


def test_lists_are_paged_and_filtered(client: Any, secret_manager: SecretManagerServer) -> None:
    """Versions come newest first; a filter that is not understood is refused, not ignored."""
    secret_manager.service.largest_page = 2
    for _ in range(4):
        client.add_secret_version(parent=PATH, payload={"data": b"x"})
    client.destroy_secret_version(name=f"{PATH}/versions/3")
    pages = list(client.list_secret_versions(parent=PATH).pages)
    assert [len(page.versions) for page in pages] == [2, 2, 1]
    request = {"parent": PATH, "filter": "state:DESTROYED"}
    names = [version.name.rpartition("/")[2] for version in client.list_secret_versions(request)]
    assert names == ["3"]
    with pytest.raises(exceptions.InvalidArgument):
        client.list_secret_versions({"parent": PATH, "filter": "state = ENABLED"})
    assert list(client.list_secrets(parent="projects/other")) == []


def test_a_held_view_shows_the_past(client: Any, secret_manager: SecretManagerServer) -> None:
    """Aliases, states and lists lag; a version just added is there by number; then all agree."""
    secret_manager.vault.hold()
    client.add_secret_version(parent=PATH, payload={"data": b"2"})
    client.disable_secret_version(name=f"{PATH}/versions/1")
    create(client, "pepper")
    assert client.access_secret_version(name=f"{PATH}/versions/latest").payload.data == b"1"
    assert client.access_secret_version(name=f"{PATH}/versions/2").payload.data == b"2"
    assert len(list(client.list_secret_versions(parent=PATH))) == 1
    assert len(list(client.list_secrets(parent=PARENT))) == 1
    secret_manager.vault.release()
    assert client.access_secret_version(name=f"{PATH}/versions/latest").payload.data == b"2"
    assert len(list(client.list_secrets(parent=PARENT))) == 2


def test_callers_are_told_apart_and_refused(
    client: Any, secret_manager: SecretManagerServer
) -> None:
    """Each call names its identity, permission and resource, by which a test may refuse it."""
    token = [("authorization", "Bearer web")]
    secret_manager.authorize = lambda call: call.identity != "web"
    with pytest.raises(exceptions.PermissionDenied, match=r"secretmanager\.secrets\.get"):
        client.get_secret(name=PATH, metadata=token)
    client.get_secret(name=PATH)
    assert secret_manager.calls[-2] == Call("web", "GetSecret", "secretmanager.secrets.get", PATH)
