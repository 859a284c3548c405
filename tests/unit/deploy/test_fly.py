"""fly.toml: a web app that would start, stay up and end in time."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from web.config import WebSettings

ROOT = Path(__file__).parents[3]
# Commands of flyctl, and of each command's flags those that the documents use.
FLYCTL = {
    "auth login": set(),
    "apps create": {"--org"},
    "secrets set": {"--app"},
    "deploy": {"--app", "--ha", "--env"},
    "scale count": {"--app"},
    "logs": {"--app", "--no-tail"},
}


@pytest.fixture(scope="module")
def fly() -> dict:
    return tomllib.loads((ROOT / "fly.toml").read_text())


def test_the_web_app_would_start_with_it(fly):
    """Its environment and the one secret are all that the settings want; no key file is in it."""
    read = WebSettings.from_env({**fly["env"], "WEB_SESSION_KEY": "x" * 64})
    assert read.auth.gcp_project == "your-project-id"
    assert read.auth.workload is not None
    assert read.client_address_header == "Fly-Client-IP"
    assert read.port == fly["http_service"]["internal_port"]
    assert not {name for name in fly["env"] if "KEY" in name or "CREDENTIALS" in name}


def test_sessions_are_kept_and_streams_get_their_time(fly):
    """One machine stays up, counted by its open pages, and is told to end before it is killed."""
    service = fly["http_service"]
    assert service["auto_stop_machines"] == "off"
    assert service["concurrency"]["type"] == "connections"
    assert service["force_https"] is True
    assert fly["kill_signal"] == "SIGTERM"
    assert fly["kill_timeout"] >= 10
    [check] = service["checks"]
    assert check["path"] == "/_stcore/health"
    [machine] = fly["vm"]
    assert machine["memory"] == "512mb"


def test_the_image_is_the_web_app_that_can_say_who_it_is(fly):
    """The target `web`, which begins as root there: Fly's socket answers nobody else."""
    assert fly["build"]["build-target"] == "web"
    assert fly["build"]["args"] == {"RUN_AS": "0:0"}


def test_flyctl_reads_every_key(fly):
    """flyctl passes over a key that it does not know: these are names of its own structures."""
    assert set(fly) <= {"app", "primary_region", "kill_signal", "kill_timeout", "build", "env"} | {
        *("http_service", "vm", "restart")
    }
    assert set(fly["build"]) <= {"dockerfile", "build-target", "args"}
    service = fly["http_service"]
    assert set(service) <= {"internal_port", "force_https", "concurrency", "checks"} | {
        *("auto_stop_machines", "auto_start_machines")
    }
    assert set(service["concurrency"]) == {"type", "soft_limit", "hard_limit"}
    [check], [machine], [restart] = service["checks"], fly["vm"], fly["restart"]
    assert set(check) <= {"method", "path", "grace_period", "interval", "timeout"}
    assert set(machine) <= {"size", "memory"}
    assert restart == {"policy": "on-failure"}


def test_flyctl_has_every_command_that_is_shown():
    """What a reader types is a command of flyctl with flags of that command's."""
    shown = []
    for path in (ROOT / "fly.toml", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text().replace("\\\n", " ")
        shown += re.findall(r"^(?:#   )?(fly [a-z].*)", text, re.MULTILINE)
        shown += re.findall(r"`(fly [a-z][^`]*)`", text)
    assert len(shown) > 8
    for line in shown:
        known = [name for name in FLYCTL if line.startswith(f"fly {name}")]
        assert known, line
        assert set(re.findall(r" (--[a-z-]+)", line)) <= FLYCTL[known[0]], line


def test_the_documented_deploy_makes_one_machine():
    """Every `fly deploy` that is shown says so: without, a first deploy makes two."""
    for name in ("fly.toml", "docs/deploy.md"):
        text = (ROOT / name).read_text().replace("\\\n", " ")
        typed = [line for line in text.splitlines() if re.match(r"(#   )?fly deploy ", line)]
        assert typed
        assert all("--ha=false" in line for line in typed), typed
