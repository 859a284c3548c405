"""`make run` says in one line why it cannot, stops what it started, and shows secrets once."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import redis

from auth.config import SettingsError
from auth.embedded_redis import ensure
from deploy import local
from deploy.first_start import NewUser
from tests.support.api_server import free_port
from tests.support.waiting import wait_until

WAIT = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAIT}"


@pytest.fixture
def listener():
    with socket.create_server((local.HOST, 0)) as server:
        yield server


def child(program: str, probe: str = "http://127.0.0.1:1/") -> local.Child:
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, process_group=0
    )
    with process.stdout as said:
        said.readline()  # it has installed its handlers
    return local.Child("api", process, probe)


def test_a_port_in_use_is_one_line_before_anything_is_made(listener, tmp_path):
    """With the port taken nothing is created, and the line names the setting that moves it."""
    home = tmp_path / "home"
    environ = {"QUILLGATE_HOME": str(home), "WEB_PORT": str(listener.getsockname()[1])}
    with pytest.raises(local.LocalError, match="in use: choose another with WEB_PORT="):
        local.run({**environ, "API_PORT": str(free_port())}, threading.Event(), [])
    assert not home.exists()


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"API_PORT": "8080x"}, "API_PORT"),
        ({"API_PORT": "0"}, "API_PORT"),
        ({"API_PORT": "9000", "WEB_PORT": "9000"}, "must differ"),
        ({"SECRETS": "vault"}, "SECRETS"),
    ],
)
def test_a_bad_setting_is_one_line(environ, named):
    """A setting that cannot be used is named; nothing is started."""
    with pytest.raises((local.LocalError, SettingsError), match=named) as refused:
        local.run(environ, threading.Event(), [])
    assert "\n" not in str(refused.value)


def test_a_port_is_free_again_after_its_server_left(listener):
    """A port counts as in use while somebody listens, and no longer."""
    port = listener.getsockname()[1]
    assert not local.is_free(port)
    with socket.create_connection((local.HOST, port)):
        listener.accept()[0].close()
    listener.close()
    assert local.is_free(port)


def test_a_child_that_ends_is_named_with_its_status():
    """A service that dies ends the wait with a line that names it."""
    ended = child("print('up', flush=True); raise SystemExit(7)")
    ended.process.wait()
    with pytest.raises(local.LocalError, match="python -m api ended with status 7"):
        local.wait_until_ready([ended], threading.Event())
    with pytest.raises(local.LocalError, match="status 7"):
        local.hold([ended], threading.Event(), lambda: None)


def test_a_killed_redis_is_started_again(tmp_path, capsys):
    """`make run` goes on with the same data at the same address, and says so once."""
    with ensure(tmp_path) as held, redis.Redis.from_url(held.url) as client:
        client.set("used", 7)
        client.wait(0, 0)
        local.revive(held, tmp_path)
        assert capsys.readouterr().err == ""
        server = client.info("server")
        os.kill(server["process_id"], signal.SIGKILL)
        wait_until(lambda: held.ended)
        local.revive(held, tmp_path)
        assert client.get("used") == b"7"
        assert client.info("server")["run_id"] != server["run_id"]
        local.revive(held, tmp_path)
        assert capsys.readouterr().err == "make run: Redis had ended and was started again\n"
    wait_until(lambda: held.ended)


class Unready(BaseHTTPRequestHandler):
    """An API whose keyring loads and whose model never will."""

    def do_GET(self):
        self.send_response(503)
        self.end_headers()
        checks = {"model": "failed: no such directory", "keyring": "loading", "redis": "ok"}
        self.wfile.write(json.dumps({"ready": False, "checks": checks}).encode())

    def log_message(self, *_):
        """Say nothing."""


def test_a_service_that_will_never_be_ready_is_not_waited_for():
    """A failed check ends the wait at once with what the service said."""
    with HTTPServer((local.HOST, 0), Unready) as server, local.stopping([]) as children:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        children.append(child(WAIT, f"http://{local.HOST}:{server.server_port}/ready"))
        try:
            with pytest.raises(local.LocalError, match="api cannot start: model failed: no such"):
                local.wait_until_ready(children, threading.Event())
        finally:
            server.shutdown()
            thread.join()


def test_a_service_that_takes_too_long_is_given_up(monkeypatch):
    """When the time is over the line says what was missing last."""
    monkeypatch.setattr(local, "READY_SECONDS", 0.0)
    with local.stopping([]) as children:
        children.append(child(WAIT))
        with pytest.raises(local.LocalError, match="not ready after 0 s: no answer yet"):
            local.wait_until_ready(children, threading.Event())


def test_leaving_stops_every_child():
    """At the end of the block every child is gone, also when an error ended it."""
    children = []

    def block():
        with local.stopping([]) as started:
            started += [child(WAIT), child(WAIT)]
            children.extend(started)
            raise LookupError

    with pytest.raises(LookupError):
        block()
    assert [one.process.returncode for one in children] == [-signal.SIGTERM] * 2


def test_children_get_the_signal_that_we_got():
    """Ctrl-C reaches the services as SIGINT, which they answer faster than SIGTERM."""
    with local.stopping([signal.SIGINT]) as children:
        children.append(child(f"import signal; signal.signal(2, lambda *_: exit(5)); {WAIT}"))
    assert children[0].process.returncode == 5


def test_a_second_signal_waits_for_nobody():
    """A child that ignores the signal is killed when the person asks again."""
    with local.stopping([signal.SIGTERM, signal.SIGTERM]) as children:
        children.append(child(STUBBORN))
    assert children[0].process.returncode == -signal.SIGKILL


def test_a_child_that_will_not_stop_is_killed(monkeypatch):
    """After the time for stopping a child is killed."""
    monkeypatch.setattr(local, "STOP_SECONDS", 0.2)
    with local.stopping([signal.SIGTERM]) as children:
        children.append(child(STUBBORN))
    assert children[0].process.returncode == -signal.SIGKILL


def test_the_wait_ends_when_told_to_stop():
    """Ctrl-C before the services are ready is heard at once."""
    stop = threading.Event()
    stop.set()
    with local.stopping([]) as children:
        children.append(child(WAIT))
        assert local.wait_until_ready(children, stop) is False


def test_the_block_of_the_first_start_has_all_and_a_line_to_paste():
    """Both users, passwords and keys are shown; the curl line is one shell command."""
    users = [NewUser("demo", "p1", "k1"), NewUser("admin", "p2", "k2")]
    text = local.shown_once(users, "http://127.0.0.1:8080")
    for user in users:
        assert {user.name, user.password, user.key} <= set(text.split())
    (line,) = [line for line in text.splitlines() if line.strip().startswith("curl")]
    words = shlex.split(line)
    assert "http://127.0.0.1:8080/generate" in words
    assert "X-API-Key: k1" in words
    assert "p1" not in repr(users)
    assert "k1" not in repr(users)
