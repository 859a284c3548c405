"""A rotation of a forwarded key: the API mints, this app keeps, and nobody is locked out."""

from __future__ import annotations

import secrets

import pytest

from tests.support.fake_api import FakeApi, Refusal
from tests.support.web_parts import MemoryUsers
from web.api_client import ApiError
from web.services import Services


def new_key() -> str:
    return f"qg_live_{secrets.token_hex(24)}"


def asked(fake_api: FakeApi) -> list[tuple[str, str]]:
    return [(call.method, call.path) for call in fake_api.calls]


def test_a_users_own_key_is_kept_and_forwarded_before_long(
    parts: Services, users: MemoryUsers, fake_api: FakeApi
) -> None:
    """The store holds the new secret; the old one is forwarded until nobody can cancel any more."""
    key, old = new_key(), parts.accounts.key_of("ada")
    fake_api.answers["POST /v1/key/rotate"] = {"key": key, "forwarded_for": ["ada"]}
    assert parts.key_rotation.own("ada") == key
    assert users.kept == [("ada", key)]
    assert parts.accounts.key_of("ada") == old
    assert fake_api.calls[0].body == {"web_copy": True}
    users.key = key
    parts.accounts._clock = lambda: float("inf")
    assert parts.accounts.key_of("ada") == key


def test_a_cancelled_rotation_forwards_the_old_secret_for_good(
    parts: Services, users: MemoryUsers, fake_api: FakeApi
) -> None:
    """It is kept again, and it was the old one that asked for it."""
    old = parts.accounts.key_of("ada")
    fake_api.answers["POST /v1/key/rotate"] = {"key": new_key(), "forwarded_for": ["ada"]}
    fake_api.answers["DELETE /v1/key/rotation"] = {"forwarded_for": ["ada", "root"]}
    parts.key_rotation.own("ada")
    parts.key_rotation.cancel_own("ada")
    assert users.kept[1:] == [("ada", old), ("root", old)]
    assert fake_api.calls[-1].key == old


def test_an_admin_rotates_for_everybody_whose_key_it_is(
    parts: Services, users: MemoryUsers, fake_api: FakeApi
) -> None:
    """A key that two people share is kept for both."""
    key = new_key()
    path = "POST /v1/admin/keys/AAAAAAAAAAAA/rotate"
    fake_api.answers[path] = {"key": key, "forwarded_for": ["ada", "root"]}
    parts.key_rotation.of("root", "AAAAAAAAAAAA", ["ada", "root"])
    assert users.kept == [("ada", key), ("root", key)]


def test_a_key_that_cannot_be_kept_is_taken_back(
    parts: Services, users: MemoryUsers, fake_api: FakeApi
) -> None:
    """The old secret goes on serving, and the person is told that nothing happened."""
    old = parts.accounts.key_of("ada")
    fake_api.answers["POST /v1/key/rotate"] = {"key": new_key(), "forwarded_for": ["ada"]}
    fake_api.answers["DELETE /v1/key/rotation"] = {}
    users.broken = True
    with pytest.raises(ApiError, match="key_unwritable"):
        parts.key_rotation.own("ada")
    assert asked(fake_api)[-1] == ("DELETE", "/v1/key/rotation?web_copy=true")
    assert parts.accounts.key_of("ada") == old


def test_a_refused_rotation_changes_nothing(
    parts: Services, users: MemoryUsers, fake_api: FakeApi
) -> None:
    """What the API refuses is neither kept nor taken back."""
    fake_api.answers["POST /v1/key/rotate"] = Refusal(409, "conflict")
    with pytest.raises(ApiError, match="conflict"):
        parts.key_rotation.own("ada")
    assert users.kept == []
    assert asked(fake_api) == [("POST", "/v1/key/rotate")]
