"""A Fly machine begins as root and the app is not: it has the socket and nothing else of root's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.fly_platform import FlyPlatform
from web import fly_machine
from web.__main__ import main

ROOT = Path(__file__).parents[3]
# What a process on the machine does: `ask` for a token, before or after it stepped down.
ON_THE_MACHINE = """
import os, sys
from pathlib import Path
from auth.secrets.fly_identity import FlyTokens
from web.fly_machine import APP_USER, step_down

path = Path(sys.argv[1])
if sys.argv[2] == "steps down":
    step_down(path)
else:
    os.setuid(APP_USER)
print(os.getresuid(), os.getgroups())
FlyTokens("https://audience", socket_path=path, clock=lambda: 0.0).get_subject_token(None, None)
try:
    os.setuid(0)
except PermissionError:
    print("for good")
"""


@pytest.fixture
def calls(monkeypatch) -> list[tuple]:
    """Return the list of what is asked of the system by a process that is root."""
    asked: list[tuple] = []
    monkeypatch.setattr(os, "getuid", lambda: 0)
    for name in ("chown", "setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda *given, name=name: asked.append((name, *given)))
    return asked


def test_root_is_left_after_the_socket_is_given(calls, tmp_path):
    """Groups go before the group, the group before the user: the other way round root is kept."""
    with tempfile.TemporaryDirectory(prefix="qg-") as folder:
        with FlyPlatform(Path(folder)).running() as fly:
            fly_machine.step_down(fly.socket_path)
        user = fly_machine.APP_USER
        left = [("setgroups", []), ("setgid", user), ("setuid", user)]
        assert calls == [("chown", fly.socket_path, user, user), *left]
    calls.clear()
    fly_machine.step_down(tmp_path / "none")
    assert calls == left


def test_who_is_not_root_stays(calls, monkeypatch, tmp_path):
    """An image that begins as its own user has nothing to give away and nobody to become."""
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    fly_machine.step_down(tmp_path / "none")
    assert calls == []


def test_a_machine_of_flys_is_enough_to_leave_root(monkeypatch, capsys, tmp_path):
    """Also where the settings name no workload: nothing is served before, nor if it cannot be."""

    def refused(_socket_path):
        raise OSError("not permitted")

    monkeypatch.setattr(fly_machine, "step_down", refused)
    monkeypatch.setenv("QUILLGATE_HOME", str(tmp_path))
    monkeypatch.setenv("FLY_MACHINE_ID", "d891")
    assert main() == 1
    assert capsys.readouterr().err == "web: the user cannot be changed: not permitted\n"


def test_the_images_agree():
    """The user is the Dockerfile's, and only Fly's image begins as root."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    user = f"{fly_machine.APP_USER}:{fly_machine.APP_USER}"
    assert re.findall(r"^(?:USER|ARG RUN_AS=) ?(\S+)$", dockerfile, re.MULTILINE) == [
        *(user, "${RUN_AS}"),
        user,
    ]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a socket away; the order is held")
def test_the_socket_of_root_answers_after_stepping_down():
    """Really, where the tests are root: without it the app's user is refused by the socket."""
    with tempfile.TemporaryDirectory(prefix="qg-") as folder:
        Path(folder).chmod(0o755)
        with FlyPlatform(Path(folder)).running() as fly:

            def machine(how: str) -> subprocess.CompletedProcess[str]:
                command = [sys.executable, "-c", ON_THE_MACHINE, str(fly.socket_path), how]
                return subprocess.run(
                    command, cwd=ROOT, capture_output=True, text=True, check=False
                )

            assert "Permission denied" in machine("is not root").stderr
            assert fly.asked == 0
            done = machine("steps down")
            user = fly_machine.APP_USER
            assert done.stdout == f"({user}, {user}, {user}) []\nfor good\n", done.stderr
            assert fly.asked == 1
