"""Users and keys survive the store's outage and follow its changes."""

import threading

import pytest

from tests.support.web_parts import Clock, MemoryUsers
from web.accounts import KEY_SECONDS, REFUSED_KEY_SECONDS, Account, Accounts
from web.api_client import ApiError


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def accounts(users, clock):
    return Accounts(users, clock)


def test_without_a_first_reading_nothing_starts():
    """A web app that knows no users does not pretend to."""
    users = MemoryUsers()
    users.broken = True
    with pytest.raises(OSError, match="away"):
        Accounts(users)


def test_an_outage_keeps_the_last_copy_and_its_end_brings_the_changes(accounts, users):
    """People stay served; what changed meanwhile is seen afterwards."""
    users.broken = True
    assert accounts.refresh() is False
    assert accounts.find("ada") is not None
    users.broken = False
    del users.accounts["ada"]
    assert accounts.refresh() is True
    assert accounts.find("ada") is None


def test_users_are_read_again_every_minute_until_told_to_stop(accounts, users, monkeypatch):
    """The refreshing thread goes on through failures and ends when asked."""
    monkeypatch.setattr("web.accounts.REFRESH_SECONDS", 0.01)
    users.broken = True
    stop = threading.Event()
    thread = threading.Thread(target=accounts.keep_fresh, args=(stop,))
    thread.start()
    users.accounts["new"] = Account("new", "hash")
    users.broken = False
    for _ in range(500):
        if accounts.find("new"):
            break
        threading.Event().wait(0.01)
    stop.set()
    thread.join(timeout=5)
    assert accounts.find("new") is not None
    assert not thread.is_alive()


def test_a_key_is_read_once_in_five_minutes(accounts, users, clock):
    """The store is not asked for every generation, and a changed key is seen in the end."""
    assert accounts.key_of("ada") == users.key
    clock.now += KEY_SECONDS - 1
    accounts.key_of("ada")
    assert users.key_reads == 1
    clock.now += 1
    accounts.key_of("ada")
    assert users.key_reads == 2


def test_a_refused_key_is_replaced_by_the_one_that_is_stored_now(accounts, users):
    """After a rotation elsewhere the new key is found without a restart."""
    old = accounts.key_of("ada")
    users.key = old + "new"
    assert accounts.key_was_refused("ada", old) == old + "new"
    assert accounts.key_of("ada") == old + "new"


def test_a_key_that_stays_refused_is_not_sent_again_for_a_while(accounts, users, clock):
    """One person with a revoked key does not get the address throttled that all share."""
    key = accounts.key_of("ada")
    with pytest.raises(ApiError, match="invalid_key"):
        accounts.key_was_refused("ada", key)
    with pytest.raises(ApiError, match="invalid_key"):
        accounts.key_of("ada")
    clock.now += REFUSED_KEY_SECONDS
    assert accounts.key_of("ada") == key


def test_no_key_and_no_store_are_told_apart(accounts, users):
    """Someone without a key is sent to the admin; an outage only asks for patience."""
    users.key = ""
    with pytest.raises(ApiError, match="no_key"):
        accounts.key_of("ada")
    users.broken = True
    with pytest.raises(ApiError, match="key_unreadable"):
        accounts.key_of("ada")


def test_neither_keys_nor_hashes_show_in_a_repr(accounts, users):
    """Printing what is held leaks nothing."""
    accounts.key_of("ada")
    shown = repr(accounts._keys) + repr(accounts.find("ada"))
    assert users.key not in shown
    assert users.accounts["ada"].password_hash not in shown
