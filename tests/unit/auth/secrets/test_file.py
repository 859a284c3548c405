"""How the file store treats its directory, other processes, and a disk that fails."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from auth.secrets import (
    SecretNotFoundError,
    SecretPermissionError,
    SecretStoreUnavailableError,
)
from auth.secrets.file import FileSecretStore


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "home" / "secrets"


@pytest.fixture
def store(directory: Path) -> FileSecretStore:
    """Return a store with the secret `keyring` and one version in it."""
    store = FileSecretStore(directory, lock_timeout_seconds=0.2)
    store.ensure_secret("keyring")
    store.add_version("keyring", b"1")
    return store


def test_only_the_owner_may_look(store: FileSecretStore, directory: Path) -> None:
    """Whatever the umask: directories are 0700, files 0600."""
    before = os.umask(0)
    try:
        store.ensure_secret("pepper")
        store.add_version("pepper", b"x")
        store.move_alias("pepper", "current", 1, store.read_alias("pepper", "current").etag)
    finally:
        os.umask(before)
    for path in (directory, *directory.rglob("*")):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_directory_that_others_could_read_is_closed(directory: Path) -> None:
    """A directory made by hand with common rights is made private."""
    directory.mkdir(parents=True, mode=0o755)
    FileSecretStore(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_writer_killed_half_way_leaves_nothing_half_written(
    store: FileSecretStore, directory: Path
) -> None:
    """Left-over temporary files and a payload whose number was never given out do no harm."""
    (directory / "keyring" / ".new").write_bytes(b"half")
    (directory / "keyring" / "2").write_bytes(b"never given out")
    assert [version.number for version in store.list_versions("keyring")] == [1]
    assert store.access("keyring", "latest").data == b"1"
    assert store.add_version("keyring", b"2") == 2
    assert store.access("keyring", 2).data == b"2"


def test_a_secret_killed_at_birth_is_finished_by_the_next(
    store: FileSecretStore, directory: Path
) -> None:
    """A directory without a state is no secret yet, and `ensure_secret` completes it."""
    (directory / "users").mkdir()
    assert store.list_secrets("") == ["keyring"]
    with pytest.raises(SecretNotFoundError):
        store.add_version("users", b"x")
    store.ensure_secret("users")
    assert store.add_version("users", b"x") == 1


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"surprise": 1}', b"\xff"])
def test_a_damaged_state_is_reported_not_repaired(
    store: FileSecretStore, directory: Path, damage: bytes
) -> None:
    """A state that cannot be read stops the call and names the file; nothing starts from zero."""
    (directory / "keyring" / "state.json").write_bytes(damage)
    with pytest.raises(SecretStoreUnavailableError, match=r"state\.json is damaged"):
        store.add_version("keyring", b"2")
    store.ensure_secret("keyring")
    assert (directory / "keyring" / "state.json").read_bytes() == damage


def test_waiting_for_another_writer_ends(store: FileSecretStore, directory: Path) -> None:
    """A process that holds the lock and hangs costs writers a bounded time, readers nothing."""
    with (directory / ".lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SecretStoreUnavailableError, match="holds the lock"):
            store.add_version("keyring", b"2")
        assert store.access("keyring", 1).data == b"1"
    assert store.add_version("keyring", b"2") == 2


def test_a_writer_that_dies_gives_its_turn_up(store: FileSecretStore, directory: Path) -> None:
    """The lock ends with its process, however that ends."""
    code = """
import fcntl, sys, time
lock = open(sys.argv[1], "rb+")
fcntl.flock(lock, fcntl.LOCK_EX)
print(flush=True)
time.sleep(600)
"""
    command = [sys.executable, "-c", code, str(directory / ".lock")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert store.add_version("keyring", b"2") == 2


def test_a_full_disk_is_said_and_changes_nothing(
    store: FileSecretStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk takes no more bytes the call fails as unavailable and the old state stands."""

    def full(_descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("auth.secrets.file.os.fsync", full)
    with pytest.raises(SecretStoreUnavailableError, match="No space left"):
        store.add_version("keyring", b"2")
    monkeypatch.undo()
    assert [version.number for version in store.list_versions("keyring")] == [1]
    assert store.add_version("keyring", b"2") == 2


def test_a_forbidden_directory_is_a_matter_of_permission(
    store: FileSecretStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of access rights names the path; as root nothing is forbidden, so it is staged."""

    def forbidden(path: Path) -> bytes:
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(SecretPermissionError, match=r"Permission denied: .*keyring"):
        store.access("keyring", 1)


def test_a_file_in_place_of_the_directory_is_one_clear_error(tmp_path: Path) -> None:
    """A store that cannot have its directory fails when it is built, as one of our errors."""
    (tmp_path / "secrets").write_text("not a directory")
    with pytest.raises(SecretStoreUnavailableError, match=r"secrets in .*File exists"):
        FileSecretStore(tmp_path / "secrets")


def test_an_alias_moved_while_it_is_read_is_followed(
    store: FileSecretStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader between alias and payload, whose version is destroyed just then, gets the next."""
    store.move_alias("keyring", "current", 1, store.read_alias("keyring", "current").etag)
    real = Path.read_bytes

    def overtaken(path: Path) -> bytes:
        if path.name == "1":
            monkeypatch.undo()
            number = store.add_version("keyring", b"2")
            state = store.read_alias("keyring", "current")
            store.move_alias("keyring", "current", number, state.etag)
            store.destroy_version("keyring", 1)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", overtaken)
    assert store.access("keyring", "current").data == b"2"


def test_the_store_loads_no_library_of_google() -> None:
    """Whoever uses files pays nothing for the cloud: neither memory nor start-up time."""
    code = (
        "import sys, auth.secrets.file; print([m for m in ('grpc', 'google') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert answer.stdout.strip() == b"[]"


def test_directories_differ_also_where_case_is_ignored(
    store: FileSecretStore, directory: Path
) -> None:
    """On macOS `webkey-Bob` and `webkey-bob` would else be one directory, and one key."""
    for name in ("webkey-bob", "webkey-Bob", "WEBKEY-BOB"):
        store.ensure_secret(name)
    homes = [path.name.lower() for path in directory.iterdir() if path.is_dir()]
    assert len(homes) == len(set(homes)) == 4
