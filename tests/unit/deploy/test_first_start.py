"""The first start makes a tenant and two users who can use the API, and later ones make nothing."""

from __future__ import annotations

import time

import bcrypt
import pytest

from auth.config import AuthSettings
from auth.principal import Scope
from auth.propagation import ADMIN_TIMEOUT_SECONDS
from auth.stores import open_stores
from deploy import first_start as module
from deploy.first_start import first_start


@pytest.fixture
def settings(tmp_path):
    return AuthSettings.from_env({"QUILLGATE_HOME": str(tmp_path), "KEYRING_SHARDS": "2"})


def test_the_shown_keys_and_passwords_work(settings, redis_url):
    """Each key authenticates as the demo tenant; each password fits its user; one is an admin."""
    users = first_start(settings, redis_url)
    assert [user.name for user in users] == ["demo", "admin"]
    stores = open_stores(settings, redis_url, redis_timeout_seconds=ADMIN_TIMEOUT_SECONDS)
    try:
        stores.keyring.load()
        kept = stores.users.load()
        for user in users:
            principal = stores.keyring.authenticate(user.key, "127.0.0.1", time.time())
            assert principal.tenant == "demo"
            assert Scope.GENERATE in principal.scopes
            assert (Scope.ADMIN in principal.scopes) == (user.name == "admin")
            account = kept[user.name]
            assert bcrypt.checkpw(user.password.encode(), account.password_hash.encode())
            assert not account.must_change_password
    finally:
        stores.close()


def test_the_second_start_makes_nothing(settings, redis_url):
    """Users and keys of an earlier start stay as they are; nothing is shown again."""
    first_start(settings, redis_url)
    assert first_start(settings, redis_url) == []


def test_an_interrupted_start_is_completed(settings, redis_url, monkeypatch):
    """When the first start ended after one user, the next makes the other one only."""
    monkeypatch.setattr(module, "USERS", {"demo": module.USERS["demo"]})
    assert [user.name for user in first_start(settings, redis_url)] == ["demo"]
    monkeypatch.undo()
    assert [user.name for user in first_start(settings, redis_url)] == ["admin"]


def test_a_cloud_project_is_left_alone(tmp_path):
    """With Google Secret Manager no demo user is made: nothing is even opened."""
    home = tmp_path / "home"
    settings = AuthSettings.from_env(
        {"SECRETS": "gcp:some-project", "REDIS_URL": "unix:///nowhere", "QUILLGATE_HOME": str(home)}
    )
    assert first_start(settings, "unix:///nowhere") == []
    assert not home.exists()
