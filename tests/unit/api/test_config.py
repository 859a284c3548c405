"""The settings of contract section 2: defaults, bounds, and one clear line for a bad one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from api.config import GENERATION_MODES, Settings
from auth.config import SettingsError

ROOT = Path(__file__).parents[3]


def test_defaults():
    """Without a word the API listens on loopback, trusts no proxy and sends no CORS header."""
    settings = Settings.from_env({}, cpus=4)
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.redis_outage == "local"
    assert settings.model_uri == "models/demo"
    assert settings.cors_origins == ()
    assert settings.trusted_proxy_hops == 0
    assert settings.generation_mode == "auto"
    assert settings.metrics_port is None


def test_make_help_lists_the_modes():
    """Whoever asks `make help` sees every value of GENERATION_MODE, and no other."""
    help_text = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"GENERATION_MODE={'|'.join(GENERATION_MODES)} " in help_text.stdout


def test_every_admitted_request_has_a_thread_and_others_have_spare_ones():
    """Running and waiting requests together can never take the last thread."""
    settings = Settings.from_env({"GENERATION_SLOTS": "8", "QUEUE_LIMIT": "5"})
    assert settings.threads > 8 + 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("REDIS_OUTAGE", "maybe"),
        ("MODEL_URI", "https://example.com/model"),
        ("MODEL_URI", "gs://bucket"),
        ("MODEL_URI", "/no/such/model"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://good.example.com,https://bad.example.com/path"),
        ("CORS_ORIGINS", "https://*.example.com"),
        ("TRUSTED_PROXY_HOPS", "-1"),
        ("GENERATION_SLOTS", "0"),
        ("QUEUE_LIMIT", "many"),
        ("GENERATION_MODE", "fast"),
        ("METRICS_PORT", "8080"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("LOG_FORMAT", "xml"),
        ("KEY_LABEL", "prod"),
        ("REDIS_URL", "http://localhost"),
        ("NUMBA_DISABLE_JIT", "1"),
    ],
)
def test_a_bad_value_is_named(name, value):
    """One line, which begins with the variable's name."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({name: value})
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


def test_several_origins():
    """Origins are exact: scheme, host and port."""
    settings = Settings.from_env({"CORS_ORIGINS": "https://a.example.com, http://localhost:8501"})
    assert settings.cors_origins == ("https://a.example.com", "http://localhost:8501")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "none"),
        ("SECRETS", "gcp:my-project"),
        ("PLANS_FILE", "no-such-file.toml"),
        ("NUMBA_DISABLE_JIT", "1"),
        pytest.param(
            *("GENERATION_MODE", "cuda"),
            marks=pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU"),
        ),
    ],
)
def test_a_bad_setting_stops_the_process_with_one_line(tmp_path, name, value):
    """`python -m api` says what is wrong on stderr and ends with status 1; nothing is started."""
    done = subprocess.run(
        [sys.executable, "-m", "api"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "QUILLGATE_HOME": str(tmp_path / "home"), name: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("quillgate api: ")
    assert not (tmp_path / "home").exists()
