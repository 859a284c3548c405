"""What every secret store promises: one suite, run against files and against Secret Manager."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from auth.secrets import (
    MAX_PAYLOAD_BYTES,
    SecretConflictError,
    SecretNotFoundError,
    SecretStore,
    VersionInfo,
    VersionState,
)

OpenStore = Callable[[], SecretStore]


def test_a_version_is_read_back_whole_by_its_number(secret_store: SecretStore) -> None:
    """Any bytes up to the limit come back unchanged, under numbers that count from 1."""
    payloads = [b"\x00", "grüße\n".encode(), os.urandom(MAX_PAYLOAD_BYTES)]
    secret_store.ensure_secret("keyring")
    numbers = [secret_store.add_version("keyring", payload) for payload in payloads]
    assert numbers == [1, 2, 3]
    for number, payload in zip(numbers, payloads, strict=True):
        version = secret_store.access("keyring", number)
        assert (version.number, version.data) == (number, payload)


def test_ensuring_a_secret_again_keeps_what_it_holds(open_secret_store: OpenStore) -> None:
    """`ensure_secret` may run at every start, by every instance, and never loses a version."""
    open_secret_store().ensure_secret("pepper")
    number = open_secret_store().add_version("pepper", b"x")
    open_secret_store().ensure_secret("pepper")
    assert open_secret_store().access("pepper", number).data == b"x"


def test_what_one_store_writes_another_reads_at_once(open_secret_store: OpenStore) -> None:
    """Two instances over the same secrets see each other's versions and aliases."""
    writer, reader = open_secret_store(), open_secret_store()
    writer.ensure_secret("users")
    number = writer.add_version("users", b"{}")
    writer.move_alias("users", "current", number, writer.read_alias("users", "current").etag)
    assert reader.access("users", "current").data == b"{}"
    assert reader.read_alias("users", "current").number == number


def test_an_alias_that_is_not_set_reads_as_none(secret_store: SecretStore) -> None:
    """A new secret has no alias, yet an etag to set the first one with."""
    secret_store.ensure_secret("keyring")
    state = secret_store.read_alias("keyring", "current")
    assert state.number is None
    assert state.etag
    with pytest.raises(SecretNotFoundError):
        secret_store.access("keyring", "current")


def test_an_alias_moves_only_with_the_etag_that_is_stored(secret_store: SecretStore) -> None:
    """Of two writers that read the same etag the second is refused, and nothing changes."""
    secret_store.ensure_secret("keyring")
    first, second = (secret_store.add_version("keyring", data) for data in (b"1", b"2"))
    etag = secret_store.read_alias("keyring", "current").etag
    secret_store.move_alias("keyring", "current", first, etag)
    with pytest.raises(SecretConflictError):
        secret_store.move_alias("keyring", "current", second, etag)
    assert secret_store.access("keyring", "current").data == b"1"
    state = secret_store.read_alias("keyring", "current")
    secret_store.move_alias("keyring", "current", second, state.etag)
    assert secret_store.access("keyring", "current").number == second


def test_moving_an_alias_to_where_it_is_still_renews_the_etag(secret_store: SecretStore) -> None:
    """Even a move that changes nothing is a write that others must notice."""
    secret_store.ensure_secret("keyring")
    number = secret_store.add_version("keyring", b"1")
    etag = secret_store.read_alias("keyring", "current").etag
    secret_store.move_alias("keyring", "current", number, etag)
    moved = secret_store.read_alias("keyring", "current").etag
    secret_store.move_alias("keyring", "current", number, moved)
    with pytest.raises(SecretConflictError):
        secret_store.move_alias("keyring", "current", number, moved)


def test_versions_do_not_touch_the_etag(secret_store: SecretStore) -> None:
    """Adding and destroying versions between read and move is no conflict."""
    secret_store.ensure_secret("keyring")
    state = secret_store.read_alias("keyring", "current")
    spare, number = (secret_store.add_version("keyring", data) for data in (b"1", b"2"))
    secret_store.destroy_version("keyring", spare)
    assert secret_store.read_alias("keyring", "current") == state
    secret_store.move_alias("keyring", "current", number, state.etag)


def test_moving_one_alias_leaves_the_others(secret_store: SecretStore) -> None:
    """Aliases of one secret are independent in what they name."""
    secret_store.ensure_secret("keyring")
    first, second = (secret_store.add_version("keyring", data) for data in (b"1", b"2"))
    for alias, number in (("current", first), ("previous", first), ("current", second)):
        etag = secret_store.read_alias("keyring", alias).etag
        secret_store.move_alias("keyring", alias, number, etag)
    assert secret_store.access("keyring", "current").number == second
    assert secret_store.access("keyring", "previous").number == first


def test_latest_is_the_version_added_last(secret_store: SecretStore) -> None:
    """`latest` follows additions and does not fall back when that version is destroyed."""
    secret_store.ensure_secret("pepper")
    with pytest.raises(SecretNotFoundError):
        secret_store.access("pepper", "latest")
    secret_store.add_version("pepper", b"1")
    number = secret_store.add_version("pepper", b"2")
    assert secret_store.access("pepper", "latest").data == b"2"
    secret_store.destroy_version("pepper", number)
    with pytest.raises(SecretNotFoundError):
        secret_store.access("pepper", "latest")


def test_a_destroyed_version_is_gone_and_its_number_stays_used(secret_store: SecretStore) -> None:
    """Destroying is final, may be repeated, and never frees a number for another payload."""
    secret_store.ensure_secret("keyring")
    number = secret_store.add_version("keyring", b"1")
    secret_store.destroy_version("keyring", number)
    secret_store.destroy_version("keyring", number)
    with pytest.raises(SecretNotFoundError):
        secret_store.access("keyring", number)
    assert secret_store.add_version("keyring", b"2") == number + 1


def test_an_alias_onto_a_destroyed_version_reads_as_not_found(secret_store: SecretStore) -> None:
    """A reader that follows an alias into the void learns so, and can begin again."""
    secret_store.ensure_secret("keyring")
    number = secret_store.add_version("keyring", b"1")
    etag = secret_store.read_alias("keyring", "current").etag
    secret_store.move_alias("keyring", "current", number, etag)
    secret_store.destroy_version("keyring", number)
    with pytest.raises(SecretNotFoundError):
        secret_store.access("keyring", "current")


def test_live_versions_are_listed_oldest_first(secret_store: SecretStore) -> None:
    """Whoever cleans up sees exactly the versions that still cost something."""
    secret_store.ensure_secret("keyring")
    assert secret_store.list_versions("keyring") == []
    for data in (b"1", b"2", b"3"):
        secret_store.add_version("keyring", data)
    secret_store.destroy_version("keyring", 2)
    assert secret_store.list_versions("keyring") == [
        VersionInfo(1, VersionState.ENABLED),
        VersionInfo(3, VersionState.ENABLED),
    ]


def test_secrets_are_listed_by_prefix(secret_store: SecretStore) -> None:
    """The prefix is matched at the beginning and by case; the answer is sorted."""
    for name in ("qg-webkey-bob", "qg-keyring-0", "other-qg-1", "qg-webkey-Bob", "QG-x"):
        secret_store.ensure_secret(name)
    assert secret_store.list_secrets("qg-") == ["qg-keyring-0", "qg-webkey-Bob", "qg-webkey-bob"]
    assert secret_store.list_secrets("nothing") == []
    assert len(secret_store.list_secrets("")) == 5


def test_names_that_differ_in_case_are_different_secrets(secret_store: SecretStore) -> None:
    """Two users whose names differ in case never share a key, on any file system."""
    for name in ("webkey-bob", "webkey-Bob"):
        secret_store.ensure_secret(name)
        secret_store.add_version(name, name.encode())
    assert secret_store.access("webkey-bob", 1).data == b"webkey-bob"
    assert secret_store.access("webkey-Bob", 1).data == b"webkey-Bob"


def test_a_deleted_secret_is_gone_with_its_versions(secret_store: SecretStore) -> None:
    """Deleting may be repeated; a secret of that name made later begins empty."""
    secret_store.ensure_secret("webkey-bob")
    secret_store.add_version("webkey-bob", b"1")
    secret_store.delete_secret("webkey-bob")
    secret_store.delete_secret("webkey-bob")
    assert secret_store.list_secrets("") == []
    with pytest.raises(SecretNotFoundError):
        secret_store.access("webkey-bob", 1)
    secret_store.ensure_secret("webkey-bob")
    assert secret_store.list_versions("webkey-bob") == []
    assert secret_store.read_alias("webkey-bob", "current").number is None


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.access("absent", 1),
        lambda store: store.access("absent", "current"),
        lambda store: store.access("absent", "latest"),
        lambda store: store.read_alias("absent", "current"),
        lambda store: store.add_version("absent", b"1"),
        lambda store: store.move_alias("absent", "current", 1, "etag"),
        lambda store: store.destroy_version("absent", 1),
        lambda store: store.list_versions("absent"),
        lambda store: store.access("present", 2),
        lambda store: store.access("present", 0),
        lambda store: store.access("present", -1),
        lambda store: store.access("present", 2**70),
        lambda store: store.destroy_version("present", 2),
        lambda store: store.destroy_version("present", 0),
    ],
)
def test_what_is_not_there_is_said_to_be_not_there(
    secret_store: SecretStore, use: Callable[[SecretStore], object]
) -> None:
    """No call on a missing secret or version creates it, answers empty, or blames the store."""
    secret_store.ensure_secret("present")
    secret_store.add_version("present", b"1")
    with pytest.raises(SecretNotFoundError, match=r"absent|present"):
        use(secret_store)
    assert secret_store.list_secrets("") == ["present"]


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.ensure_secret("../outside"),
        lambda store: store.ensure_secret(""),
        lambda store: store.ensure_secret("a" * 256),
        lambda store: store.ensure_secret("per.iod"),
        lambda store: store.access("present/versions/1", 1),
        lambda store: store.access("present", "../../present/1"),
        lambda store: store.access("present", "1"),
        lambda store: store.delete_secret(".."),
        lambda store: store.add_version("present", b""),
        lambda store: store.add_version("present", bytes(MAX_PAYLOAD_BYTES + 1)),
        lambda store: store.move_alias("present", "latest", 1, "etag"),
        lambda store: store.move_alias("present", "1", 1, "etag"),
        lambda store: store.move_alias("present", "a" * 64, 1, "etag"),
    ],
)
def test_what_no_store_could_keep_is_refused_before_it_is_tried(
    secret_store: SecretStore, use: Callable[[SecretStore], object]
) -> None:
    """Names, aliases and payloads outside the rules are a ValueError and change nothing."""
    secret_store.ensure_secret("present")
    with pytest.raises(ValueError, match=r"cannot be|bytes"):
        use(secret_store)
    assert secret_store.list_secrets("") == ["present"]
    assert secret_store.list_versions("present") == []


def test_an_empty_etag_never_moves_an_alias(secret_store: SecretStore) -> None:
    """Secret Manager takes a missing etag for consent; a store must not pass one on."""
    secret_store.ensure_secret("keyring")
    secret_store.add_version("keyring", b"1")
    with pytest.raises(SecretConflictError):
        secret_store.move_alias("keyring", "current", 1, "")
    assert secret_store.read_alias("keyring", "current").number is None


def test_payloads_stay_out_of_what_is_printed(secret_store: SecretStore) -> None:
    """Neither a version's repr nor an error about a payload shows it."""
    secret_store.ensure_secret("pepper")
    secret_store.add_version("pepper", b"canary")
    assert "canary" not in repr(secret_store.access("pepper", 1))
    with pytest.raises(ValueError, match="bytes") as refusal:
        secret_store.add_version("pepper", b"canary" * 20_000)
    assert "canary" not in str(refusal.value)


def test_of_writers_that_race_for_one_etag_exactly_one_wins(open_secret_store: OpenStore) -> None:
    """Twelve stores move an alias with the same etag at once: one succeeds, the rest conflict."""
    stores = [open_secret_store() for _ in range(12)]
    stores[0].ensure_secret("keyring")
    numbers = [store.add_version("keyring", b"x") for store in stores]
    etag = stores[0].read_alias("keyring", "current").etag

    def move(store: SecretStore, number: int) -> int | None:
        try:
            store.move_alias("keyring", "current", number, etag)
        except SecretConflictError:
            return None
        return number

    with ThreadPoolExecutor(len(stores)) as pool:
        winners = [number for number in pool.map(move, stores, numbers) if number is not None]
    assert len(winners) == 1
    assert stores[0].read_alias("keyring", "current").number == winners[0]


def test_numbers_given_out_at_once_are_all_different(open_secret_store: OpenStore) -> None:
    """Two additions never share a number, so that no payload is overwritten."""
    stores = [open_secret_store() for _ in range(8)]
    stores[0].ensure_secret("keyring")

    def add(index: int) -> tuple[int, bytes]:
        data = str(index).encode()
        return stores[index % len(stores)].add_version("keyring", data), data

    with ThreadPoolExecutor(len(stores)) as pool:
        added = dict(pool.map(add, range(24)))
    assert sorted(added) == list(range(1, 25))
    assert all(stores[0].access("keyring", number).data == added[number] for number in added)
