"""A setting that cannot be used stops the start with one line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from auth.config import AuthSettings, SettingsError, choice, integer
from auth.plans import PLANS_FILE


def test_with_nothing_set_everything_is_local():
    """An empty environment is the embedded default."""
    assert AuthSettings.from_env({}) == AuthSettings(
        home=Path(".quillgate"),
        gcp_project=None,
        prefix="quillgate",
        emulator_host=None,
        redis_url=None,
        key_label="live",
        keyring_shards=None,
    )


def test_secret_manager_is_chosen_with_its_redis():
    """`gcp:<project>` names the project; the rest is read as given."""
    settings = AuthSettings.from_env(
        {
            "SECRETS": "gcp:my-project-1",
            "REDIS_URL": "rediss://:pw@10.0.0.3:6378/0",
            "SECRET_MANAGER_EMULATOR_HOST": "127.0.0.1:9090",
            "KEY_LABEL": "test",
        }
    )
    assert settings.gcp_project == "my-project-1"
    assert settings.redis_url == "rediss://:pw@10.0.0.3:6378/0"
    assert settings.emulator_host == "127.0.0.1:9090"
    assert settings.key_label == "test"


def test_secret_manager_needs_a_redis_except_for_the_web_app():
    """Without REDIS_URL there is no embedded Redis to fall back to."""
    with pytest.raises(SettingsError, match="REDIS_URL is required"):
        AuthSettings.from_env({"SECRETS": "gcp:my-project"})
    AuthSettings.from_env({"SECRETS": "gcp:my-project"}, needs_redis=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRETS", "vault"),
        ("SECRETS", "gcp:"),
        ("SECRETS_PREFIX", "a/b"),
        ("KEY_LABEL", "prod"),
        ("KEYRING_SHARDS", "0"),
        ("KEYRING_SHARDS", "many"),
        ("REDIS_URL", "http://host"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "unix://"),
        ("REDIS_URL", "redis://host:99999999"),
        ("SECRET_MANAGER_EMULATOR_HOST", "http://x"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(name, value):
    """The operator reads which variable it was, in one line."""
    with pytest.raises(SettingsError, match=name) as caught:
        AuthSettings.from_env({name: value})
    assert "\n" not in str(caught.value)


def test_a_redis_password_is_never_repeated():
    """A refused REDIS_URL does not show what it held."""
    with pytest.raises(SettingsError) as caught:
        AuthSettings.from_env({"REDIS_URL": "https://:hunter2@host"})
    assert "hunter2" not in str(caught.value)


def test_an_empty_value_is_the_default():
    """`NAME=` is the same as not setting it."""
    assert integer({"N": ""}, "N", 7, least=1, most=9) == 7
    assert choice({"C": ""}, "C", "a", ("a", "b")) == "a"


def test_an_operators_own_plans_file_is_used(tmp_path):
    """PLANS_FILE replaces the built-in plans; a container need not be rebuilt for a plan."""
    file = tmp_path / "plans.toml"
    assert AuthSettings.from_env({"PLANS_FILE": str(file)}).plans_file == file
    assert AuthSettings.from_env({}).plans_file == PLANS_FILE
