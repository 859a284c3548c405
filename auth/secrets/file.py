"""Secrets in files of one directory, for one machine: whole and durable, or not there at all.

Readers take no lock: a version's file never changes, and a secret's state is replaced atomically.
Writers of all processes take turns by one lock file; one that waits for its turn too long, a full
disk or a damaged file is a SecretStoreUnavailableError. Directories are 0700 and files 0600.

    <directory>/.lock
    <directory>/<secret>/state.json    the last number given out, the aliases, their etag
    <directory>/<secret>/<number>      a payload; gone when destroyed
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from auth.secrets import (
    AliasState,
    Right,
    SecretConflictError,
    SecretNotFoundError,
    SecretPermissionError,
    SecretStoreUnavailableError,
    SecretVersion,
    VersionInfo,
    VersionState,
    check_alias,
    check_name,
    check_payload,
    check_version,
)

_STATE_FILE = "state.json"


@dataclass(frozen=True, slots=True)
class _State:
    """What is known of a secret besides its payloads."""

    last: int = 0
    etag: str = field(default_factory=lambda: uuid.uuid4().hex)
    aliases: Mapping[str, int] = field(default_factory=dict)


class FileSecretStore:
    """A SecretStore in a directory that it creates and keeps to its owner."""

    def __init__(self, directory: Path, *, lock_timeout_seconds: float = 10.0) -> None:
        self._directory = directory
        self._lock_timeout_seconds = lock_timeout_seconds
        with _translated(f"secrets in {directory}"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)

    def ensure_secret(self, name: str) -> None:
        home = self._home(name)
        with _translated(f"secret {name}"), self._locked():
            if (home / _STATE_FILE).exists():
                return
            home.mkdir(mode=0o700, exist_ok=True)
            _write_state(home, _State())
            _sync_directory(self._directory)

    def access(self, name: str, version: int | str) -> SecretVersion:
        check_version(version)
        home = self._home(name)
        with _translated(f"secret {name} version {version}"):
            if isinstance(version, int):
                return SecretVersion(version, (home / str(version)).read_bytes())
            number = _resolve(name, version, _read_state(home))
            try:
                return SecretVersion(number, (home / str(number)).read_bytes())
            except FileNotFoundError:
                # A writer may have moved the alias and destroyed the version in between.
                moved = _resolve(name, version, _read_state(home))
                return SecretVersion(moved, (home / str(moved)).read_bytes())

    def read_alias(self, name: str, alias: str) -> AliasState:
        with _translated(f"secret {name}"):
            state = _read_state(self._home(name))
        return AliasState(state.aliases.get(alias), state.etag)

    def add_version(self, name: str, data: bytes) -> int:
        check_payload(name, data)
        home = self._home(name)
        with _translated(f"secret {name}"), self._locked():
            state = _read_state(home)
            number = state.last + 1
            _write(home / str(number), data)
            _write_state(home, replace(state, last=number))
        return number

    def move_alias(self, name: str, alias: str, number: int, etag: str) -> None:
        check_alias(alias)
        home = self._home(name)
        with _translated(f"secret {name}"), self._locked():
            state = _read_state(home)
            if state.etag != etag:
                raise SecretConflictError(f"secret {name}: alias {alias} was moved by another")
            if not (home / str(number)).exists():
                raise SecretNotFoundError(f"secret {name} has no version {number}")
            _write_state(home, _State(state.last, aliases={**state.aliases, alias: number}))

    def destroy_version(self, name: str, number: int) -> None:
        home = self._home(name)
        with _translated(f"secret {name}"), self._locked():
            if not 1 <= number <= _read_state(home).last:
                raise SecretNotFoundError(f"secret {name} has no version {number}")
            (home / str(number)).unlink(missing_ok=True)
            _sync_directory(home)

    def list_versions(self, name: str) -> list[VersionInfo]:
        home = self._home(name)
        with _translated(f"secret {name}"):
            last = _read_state(home).last
            numbers = sorted(int(path.name) for path in home.iterdir() if path.name.isdigit())
        return [VersionInfo(number, VersionState.ENABLED) for number in numbers if number <= last]

    def list_secrets(self, prefix: str) -> list[str]:
        with _translated(f"secrets in {self._directory}"):
            states = self._directory.glob(f"*/{_STATE_FILE}")
            names = sorted(_name_of(state.parent.name) for state in states)
        return [name for name in names if name.startswith(prefix)]

    def delete_secret(self, name: str) -> None:
        home = self._home(name)
        with _translated(f"secret {name}"), self._locked():
            if home.exists():
                (home / _STATE_FILE).unlink(missing_ok=True)  # first: no half secret is readable
                shutil.rmtree(home)
                _sync_directory(self._directory)

    def rights(self, name: str) -> frozenset[Right]:
        home = self._home(name)
        if not (home / _STATE_FILE).exists():
            return frozenset()
        if os.access(home, os.W_OK | os.X_OK) and os.access(self._directory, os.W_OK):
            return frozenset(Right)
        readable = os.access(home, os.R_OK | os.X_OK)
        return frozenset({Right.ACCESS, Right.GET, Right.LIST} if readable else ())

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _home(self, name: str) -> Path:
        check_name(name)
        return self._directory / _directory_of(name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + self._lock_timeout_seconds
            while not _try_lock(lock):
                if time.monotonic() > deadline:
                    raise SecretStoreUnavailableError(
                        f"secrets in {self._directory}: another process holds the lock for over "
                        f"{self._lock_timeout_seconds:g} s"
                    )
                time.sleep(0.005)
            yield
        finally:
            os.close(lock)  # which also unlocks


def _resolve(name: str, alias: str, state: _State) -> int:
    number = state.last if alias == "latest" else state.aliases.get(alias)
    if not number:
        raise SecretNotFoundError(f"secret {name} has no version {alias}")
    return number


def _directory_of(name: str) -> str:
    """Return a directory's name that differs also where the file system ignores case."""
    return re.sub("[A-Z]", lambda capital: "+" + capital[0].lower(), name)


def _name_of(directory: str) -> str:
    return re.sub(r"\+([a-z])", lambda capital: capital[1].upper(), directory)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_state(home: Path) -> _State:
    path = home / _STATE_FILE
    try:
        return _State(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as exc:
        raise SecretStoreUnavailableError(f"{path} is damaged") from exc


def _write_state(home: Path, state: _State) -> None:
    document = {"last": state.last, "etag": state.etag, "aliases": dict(state.aliases)}
    _write(home / _STATE_FILE, json.dumps(document).encode())


def _write(path: Path, data: bytes) -> None:
    """Replace the file atomically and durably. The caller holds the lock."""
    new = path.with_name(".new")
    new.unlink(missing_ok=True)  # left by a writer that was killed
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn the errors of the file system into those of the protocol."""
    try:
        yield
    except FileNotFoundError as exc:
        raise SecretNotFoundError(f"{what}: not found") from exc
    except OSError as exc:
        if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise SecretPermissionError(f"{what}: {exc.strerror}: {exc.filename}") from exc
        raise SecretStoreUnavailableError(f"{what}: {exc.strerror}") from exc
