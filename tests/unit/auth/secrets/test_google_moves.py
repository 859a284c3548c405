"""Moving `current` to a version when answers are lost, late or overtaken: never two winners."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from auth.secrets import (
    SecretConflictError,
    SecretStoreUnavailableError,
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


def test_a_move_whose_answer_was_lost_is_a_success(
    store: GoogleSecretStore, secret_manager: SecretManagerServer
) -> None:
    """A writer that won is never told of a conflict: it would destroy the version in use."""
    number = store.add_version("keyring", b"2")
    etag = store.read_alias("keyring", "current").etag
    secret_manager.inject("UpdateSecret", code="UNAVAILABLE", applied=True)
    store.move_alias("keyring", "current", number, etag)
    assert store.access("keyring", "current").number == number
    assert secret_manager.count("UpdateSecret") == 1


def test_a_move_that_takes_effect_after_the_time_out_is_a_success(
    store: GoogleSecretStore, secret_manager: SecretManagerServer
) -> None:
    """The late first attempt and the second one are the same move, whichever arrives first."""
    number = store.add_version("keyring", b"2")
    etag = store.read_alias("keyring", "current").etag
    secret_manager.inject("UpdateSecret", delay_seconds=0.6)
    store.move_alias("keyring", "current", number, etag)
    assert store.access("keyring", "current").number == number


def test_a_move_of_unknown_outcome_is_not_called_a_conflict(
    store: GoogleSecretStore, secret_manager: SecretManagerServer
) -> None:
    """Answer lost, then another writer moved on: the caller must not believe that it lost."""
    first, second = (store.add_version("keyring", data) for data in (b"2", b"3"))
    etag = store.read_alias("keyring", "current").etag
    secret_manager.inject("UpdateSecret", code="UNAVAILABLE", applied=True)

    def another_moves_on(call: Call) -> bool:
        if call.method == "GetSecret" and secret_manager.count("UpdateSecret"):
            secret_manager.vault.update(PATH, "", aliases={"current": second})
        return True

    secret_manager.authorize = another_moves_on
    with pytest.raises(SecretStoreUnavailableError, match="may or may not"):
        store.move_alias("keyring", "current", first, etag)


def test_a_move_overtaken_between_look_and_leap_is_a_conflict(
    store: GoogleSecretStore, secret_manager: SecretManagerServer
) -> None:
    """The server's etag check decides, not the look before it."""
    first, second = (store.add_version("keyring", data) for data in (b"2", b"3"))
    etag = store.read_alias("keyring", "current").etag

    def another_is_faster(call: Call) -> bool:
        if call.method == "UpdateSecret":
            secret_manager.vault.update(PATH, "", aliases={"current": second})
        return True

    secret_manager.authorize = another_is_faster
    with pytest.raises(SecretConflictError):
        store.move_alias("keyring", "current", first, etag)
    assert store.read_alias("keyring", "current").number == second


def test_a_stale_view_of_the_secret_cannot_win(
    store: GoogleSecretStore, secret_manager: SecretManagerServer
) -> None:
    """GetSecret may show the past; a move that rests on it is refused and changes nothing."""
    first, second = (store.add_version("keyring", data) for data in (b"2", b"3"))
    secret_manager.vault.hold(metadata=True)
    stale = store.read_alias("keyring", "current")
    store.move_alias("keyring", "current", first, stale.etag)
    assert store.read_alias("keyring", "current") == stale
    with pytest.raises(SecretConflictError):
        store.move_alias("keyring", "current", second, stale.etag)
    secret_manager.vault.release()
    assert store.read_alias("keyring", "current").number == first


def test_a_new_version_is_read_by_number_while_aliases_lag(
    store: GoogleSecretStore, secret_manager: SecretManagerServer
) -> None:
    """The road of propagation (add, then access by number) needs nothing but what is strong."""
    secret_manager.vault.hold()
    number = store.add_version("keyring", b"2")
    store.move_alias("keyring", "current", number, store.read_alias("keyring", "current").etag)
    assert store.access("keyring", number).data == b"2"
    assert store.access("keyring", "current").number == 1
    assert store.access("keyring", "latest").number == 1
    secret_manager.vault.release()
    assert store.access("keyring", "current").number == number
