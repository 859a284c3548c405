"""`python -m web` as a process: how it starts, refuses to start, and ends."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.support.web_server import ROOT, WebServer

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine


def _run(server, **extra):
    return subprocess.run(
        [sys.executable, "-m", "web"],
        check=False,
        cwd=ROOT,
        env=server.environment() | extra,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "x"), ("GPT_API_URL", "nonsense"), ("WEB_SESSION_KEY", "short"), ("HOST", "x")],
)
def test_a_bad_setting_stops_it_with_one_line(tmp_path, name, value):
    """The line names the setting; the exit status is 1."""
    ended = _run(WebServer(tmp_path, "http://127.0.0.1:1"), **{name: value})
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert name in ended.stderr


def test_unreadable_users_stop_it_with_one_line(web_home):
    """A web app that cannot know anybody does not start."""
    for version in (web_home.path / "secrets" / "quillgate-users").rglob("*"):
        if version.is_file():
            version.write_bytes(b"not what was written")
    ended = _run(WebServer(web_home.path, "http://127.0.0.1:1"))
    assert ended.returncode == 1
    lines = [line for line in ended.stderr.splitlines() if line.startswith("web: ")]
    assert len(lines) == 1
    assert "users cannot be read" in lines[0]


def test_a_taken_port_stops_it(web_home):
    """It does not silently serve on another port."""
    server = WebServer(web_home.path, "http://127.0.0.1:1")
    with socket.create_server(("127.0.0.1", server.port)):
        ended = _run(server)
    assert ended.returncode == 1
    assert str(server.port) in ended.stderr


def test_it_listens_where_it_is_told_and_ends_when_asked(web_home):
    """On this machine alone by default; SIGTERM ends it within a platform's patience, status 0."""
    server = WebServer(web_home.path, "http://127.0.0.1:1")
    server.start()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((_other_address(), server.port), timeout=2)
    assert server.stop(wait_seconds=8) == 0


def _other_address():
    # Of this machine too, and not what it listens on.
    return "127.0.0.2"
