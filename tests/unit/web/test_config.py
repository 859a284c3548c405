"""Settings: good ones are read, bad ones stop the start with one line that tells no secret."""

import pytest

from web.config import SettingsError, WebSettings


@pytest.fixture
def home(tmp_path):
    return {"QUILLGATE_HOME": str(tmp_path / "home")}


def test_without_settings_it_listens_on_this_machine_alone(home):
    """The defaults are those of the contract; a container asks for more by HOST."""
    settings = WebSettings.from_env(home)
    assert (settings.host, settings.port) == ("127.0.0.1", 8501)
    assert settings.api_url == "http://127.0.0.1:8080"
    assert (settings.proxy_hops, settings.client_address_header) == (0, None)
    assert WebSettings.from_env(home | {"HOST": "0.0.0.0"}).host == "0.0.0.0"  # noqa: S104  # that is it


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "http"),
        ("HOST", "example.com"),
        ("GPT_API_URL", "ftp://x"),
        ("GPT_API_URL", "http://"),
        ("GPT_API_URL", "http://x:99999"),
        ("GPT_API_URL", "http://x/path"),
        ("GPT_API_URL", "http://x?y"),
        ("GPT_API_URL", "http://user:word@x"),
        ("WEB_SESSION_KEY", "short"),
        ("TRUSTED_PROXY_HOPS", "-1"),
        ("CLIENT_ADDRESS_HEADER", "bad header"),
        ("ALLOWED_HOSTS", "https://web.example"),
        ("LOG_FORMAT", "xml"),
        ("SECRETS", "vault"),
    ],
)
def test_a_bad_setting_is_named_in_one_line(home, name, value):
    """The operator sees which setting it is."""
    with pytest.raises(SettingsError) as error:
        WebSettings.from_env(home | {name: value})
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"), [("WEB_SESSION_KEY", "canary"), ("GPT_API_URL", "http://a:canary@x")]
)
def test_an_error_does_not_repeat_what_may_be_secret(home, name, value):
    """A mistyped secret is not printed."""
    with pytest.raises(SettingsError) as error:
        WebSettings.from_env(home | {name: value})
    assert "canary" not in str(error.value)


def test_the_session_key_is_made_once_and_kept_privately(home, tmp_path):
    """People stay logged in over a restart, and the key is for its owner alone."""
    first, second = WebSettings.from_env(home), WebSettings.from_env(home)
    assert first.session_key == second.session_key
    kept = tmp_path / "home" / "web-session-key"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in kept.parent.iterdir()] == ["web-session-key"]
    assert first.session_key not in repr(first)


def test_a_damaged_session_key_stops_the_start(home, tmp_path):
    """A guessable key is never used."""
    WebSettings.from_env(home)
    (tmp_path / "home" / "web-session-key").write_text("x")
    with pytest.raises(SettingsError, match="session key"):
        WebSettings.from_env(home)


def test_with_secret_manager_the_session_key_must_be_given(home):
    """Where there is no lasting home, a key of its own would log everybody out at each start."""
    gcp = home | {"SECRETS": "gcp:a-project"}
    with pytest.raises(SettingsError, match="WEB_SESSION_KEY is required"):
        WebSettings.from_env(gcp)
    assert WebSettings.from_env(gcp | {"WEB_SESSION_KEY": "x" * 40}).ended_file is None
