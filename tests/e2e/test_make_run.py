"""`make run` as a newcomer meets it: two starts of the whole stack, from one home."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy import local

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(300)  # two processes import their libraries, twice


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((local.HOST, 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("run") / ".quillgate"


@contextmanager
def running(
    home: Path, model: Path, ports: tuple[int, int]
) -> Iterator[tuple[subprocess.Popen, str]]:
    """Start what `make run` starts; yield the process and all it said until it was ready."""
    environ = {
        **{name: value for name, value in os.environ.items() if name != "REDIS_URL"},
        "QUILLGATE_HOME": str(home),
        "MODEL_URI": str(model),
        "API_PORT": str(ports[0]),
        "WEB_PORT": str(ports[1]),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.local"],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        said = ""
        try:
            for line in process.stdout:
                said += line
                if line.startswith("Ctrl-C"):
                    break
            yield process, said
        finally:
            process.terminate()
            process.communicate()


def paste(curl: str) -> dict:
    """Do what the shell does with the printed line, without needing curl on this machine."""
    words = iter(shlex.split(curl))
    assert next(words) == "curl"
    headers, url, body = {}, "", None
    for word in words:
        if word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(words).encode()
        elif not word.startswith("-"):
            url = word
    request = urllib.request.Request(url, data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_two_starts_of_the_whole_stack(home, ports, tiny_model):
    """The first start shows users, keys and a line that works; Ctrl-C stops all; the second start
    shows no secret and still knows the key. Nothing in the home is readable by others."""
    with running(home, tiny_model, ports) as (process, said):
        assert process.poll() is None, said
        assert re.search(r"user demo +password \S{16,}", said)
        assert re.search(r"user admin +password \S{16,}", said)
        assert len(set(re.findall(r"qg_live_\w+", said))) == 2
        (curl,) = [line for line in said.splitlines() if line.strip().startswith("curl ")]
        first, second = paste(curl), paste(curl)
        assert first["text"] == second["text"]
        assert len(first["text"]) == first["num_chars"]
        other = paste(curl.replace('"seed": 42', '"seed": 43'))
        assert other["text"] != first["text"]
        web = f"http://{local.HOST}:{ports[1]}/"
        with urllib.request.urlopen(web, timeout=30) as page:
            assert page.status == 200

        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait() == 0
    assert all(local.is_free(port) for port in ports)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    readable = [path for path in home.rglob("*") if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert not [path for path in readable if not path.is_symlink()]

    with running(home, tiny_model, ports) as (process, said):
        assert process.poll() is None, said
        assert "qg_live_" not in said
        assert not re.search(r"password \S{16,}", said)
        assert "users set-password" in said
        assert paste(curl)["text"] == first["text"]


def test_a_service_that_cannot_start_ends_the_run(home, ports, tmp_path):
    """Without its model the API will never be ready: one line says so, and all is stopped."""
    empty = tmp_path / "no model"
    empty.mkdir()
    with running(home, empty, ports) as (process, said):
        assert process.wait() == 1, said
    assert said.splitlines()[-1].startswith("make run: api cannot start: model failed: ")
    assert all(local.is_free(port) for port in ports)
