"""gs:// models, with Google's own client: fetched whole and verified, or refused in one line."""

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from api.gpt import checkpoint, model_source
from api.gpt.model_source import ModelSourceError, directory_of
from tests.support.waiting import wait_until

RANGE = 4096
names = (f"model-{n}" for n in itertools.count())


@pytest.fixture
def storage(cloud_storage, monkeypatch):
    """The bucket, seen through a relay that does nothing yet."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud_storage.url)
    cloud_storage.relay.reset()
    yield cloud_storage
    cloud_storage.relay.reset()


@pytest.fixture
def uri(storage, tiny_model):
    """A model in the bucket, under a name of its own."""
    return storage.upload(tiny_model, next(names))


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def fetch(uri, home, **how):
    return directory_of(uri, home, **{"retry_seconds": 20.0, "range_bytes": RANGE, **how})


def refused(uri, home, **how):
    """Return the one line with which a fetch is refused; nothing of it may be in the cache."""
    with pytest.raises(ModelSourceError) as refusal:
        fetch(uri, home, **how)
    said = str(refusal.value)
    assert "\n" not in said
    assert not whole_models(home)
    return said


def whole_models(home):
    cache = home / "models"
    return [p for p in cache.iterdir() if p.is_dir() and p.suffix == ""] if cache.exists() else []


def test_a_directory_is_where_it_is(home, tiny_model):
    """A path is no download: it comes back, and no cache is made."""
    assert directory_of(str(tiny_model), home) == tiny_model
    assert not home.exists()


def test_a_model_comes_whole_and_once(storage, uri, home, tiny_model):
    """The files are those of the bucket, byte for byte; the next start only asks for the
    manifest; nobody else on the machine can read the cache."""
    directory = fetch(uri, home)
    for file in (*checkpoint.FILES, "manifest.json"):
        assert (directory / file).read_bytes() == (tiny_model / file).read_bytes()
    assert checkpoint.load(directory).sha256 == checkpoint.load(tiny_model).sha256
    assert (home / "models").stat().st_mode & 0o077 == 0
    storage.relay.reset()
    assert fetch(uri, home) == directory
    asked = [head.split(b" ", 2)[1] for head in storage.relay.requests]
    # Besides objects the client asks for the bucket's place, for its own traces.
    assert [path for path in asked if b"/o/" in path and b"manifest.json" not in path] == []


def test_ranges_are_fetched_side_by_side(storage, uri, home):
    """Four ranges wait for each other: were they fetched one by one, none would ever come."""
    four, met = threading.Barrier(4), threading.Event()

    def meet(head):
        if later_range(head, 0) and not met.is_set():
            four.wait(20)
            met.set()

    storage.relay.before = meet
    assert checkpoint.load(fetch(uri, home))
    assert met.is_set()


def test_a_cut_download_goes_on_where_it_stopped(storage, uri, home, tiny_model):
    """After a cut that lasts, what was written stays; the next start fetches only the rest."""
    size = (tiny_model / "model.safetensors").stat().st_size
    storage.relay.cut_after = lambda head: 0 if later_range(head, size // 2) else None
    assert "cannot be fetched" in refused(uri, home, retry_seconds=0.5)
    [partial] = (home / "models").glob("*.partial")
    there = (partial / "model.safetensors").stat().st_size
    assert RANGE <= there <= size // 2 + RANGE
    storage.relay.reset()
    directory = fetch(uri, home)
    starts = sorted(start for start, _ in storage.relay.ranges("model.safetensors"))
    assert starts[0] == there
    assert checkpoint.load(directory)
    assert not partial.exists()


def test_a_killed_process_leaves_its_work_to_the_next(storage, uri, home, tiny_model):
    """A process that is killed while it fetches holds nobody up, and what it wrote is used."""
    half = (tiny_model / "model.safetensors").stat().st_size // 2
    never = threading.Event()
    storage.relay.before = lambda head: later_range(head, half) and never.wait(60)
    code = (
        "from api.gpt.model_source import *; "
        f"directory_of({uri!r}, Path({str(home)!r}), range_bytes={RANGE})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: stopped_at(home, half - RANGE))
    process.kill()
    assert process.wait() != 0
    assert not whole_models(home)
    never.set()
    storage.relay.reset()
    assert checkpoint.load(fetch(uri, home))
    starts = [start for start, _ in storage.relay.ranges("model.safetensors")]
    assert min(starts) > half - RANGE


def stopped_at(home, size):
    """Say whether more than so many bytes of the weights have been written."""
    found = list((home / "models").glob("*.partial/model.safetensors"))
    return bool(found) and found[0].stat().st_size > size


def later_range(head, start):
    """Say whether this asks for bytes of the weights from `start` on."""
    found = [line for line in head.lower().split(b"\r\n") if line.startswith(b"range: bytes=")]
    return bool(found) and b"safetensors" in head and int(found[0][13:].split(b"-")[0]) >= start


def test_an_answer_that_is_cut_is_asked_for_again(storage, uri, home):
    """A connection that breaks in the middle of an answer costs another request, not the start."""
    cuts = iter([600, 600, 600])
    storage.relay.cut_after = lambda head: next(cuts, None) if later_range(head, 0) else None
    assert checkpoint.load(fetch(uri, home))
    assert next(cuts, None) is None


def test_what_is_left_of_another_time_does_no_harm(uri, home, tiny_model):
    """Garbage, or more than there should be, where a download stopped: fetched from the start."""
    [*_, key] = [fetch(uri, home).name]
    shutil.rmtree(home / "models" / key)
    partial = home / "models" / f"{key}.partial"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"garbage")
    (partial / "config.json").write_bytes(b"x" * 10**5)
    directory = fetch(uri, home)
    assert checkpoint.load(directory).sha256 == checkpoint.load(tiny_model).sha256


def test_a_damaged_cache_is_fetched_anew(uri, home):
    """A file that changed in the cache is noticed at the next start, and replaced."""
    directory = fetch(uri, home)
    with (directory / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    (directory / "config.json").unlink()
    assert fetch(uri, home) == directory
    assert checkpoint.load(directory)


def test_another_manifest_is_another_model(storage, uri, home, tiny_model, tmp_path):
    """A model that was replaced in the bucket is fetched; the one before stays as it was."""
    before = fetch(uri, home)
    changed = shutil.copytree(tiny_model, tmp_path / "changed")
    manifest = json.loads((changed / "manifest.json").read_text())
    (changed / "manifest.json").write_text(json.dumps(manifest, indent=3))
    storage.upload(changed, uri.rpartition("/")[2])
    after = fetch(uri, home)
    assert after != before
    assert checkpoint.load(before).sha256 == checkpoint.load(after).sha256


def test_two_processes_fetch_it_once(storage, uri, home):
    """Processes that start together on one home: each has the model, the bucket gave it once."""
    both = threading.Barrier(2)  # each has asked for the manifest, and has yet to be answered

    def hold(head):
        if b"manifest.json" in head and b"range:" in head.lower():
            both.wait(60)
        elif later_range(head, 0):
            time.sleep(0.5)  # for the other one to come here too, if nothing kept it

    storage.relay.before = hold
    code = f"from api.gpt.model_source import *; print(directory_of({uri!r}, Path({str(home)!r})))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(printed) == 1
    assert checkpoint.load(Path(printed.pop().strip()))
    assert len(storage.relay.ranges("model.safetensors")) == 1


@pytest.mark.parametrize("file", [*checkpoint.FILES, "manifest.json"])
def test_a_missing_file_is_named(file, storage, home, tiny_model, tmp_path):
    """Each of the four files that is not in the bucket is one line with its name."""
    part = shutil.copytree(tiny_model, tmp_path / "part")
    (part / file).unlink()
    uri = storage.upload(part, next(names))
    assert refused(uri, home) == f"{uri}: there is no {file} in it"


def test_a_missing_bucket_is_named(storage, home):
    """A bucket that does not exist is told from a file that does not."""
    assert refused("gs://nowhere/x", home) == "gs://nowhere/x: there is no bucket nowhere"


@pytest.mark.parametrize("file", checkpoint.FILES)
def test_a_wrong_hash_is_named(file, storage, uri, home, tiny_model):
    """A file that is not the one of the manifest is refused by name and not kept."""
    data = bytearray((tiny_model / file).read_bytes())
    data[-2] ^= 1
    storage.put(f"{uri.rpartition('/')[2]}/{file}", bytes(data))
    said = refused(uri, home)
    assert said == f"{uri}/{file}: its SHA-256 is not the one in manifest.json"
    assert not list((home / "models").glob(f"*/{file}"))


@pytest.mark.parametrize(
    "manifest",
    [
        b"{}",
        b"nonsense",
        b'{"sha256": {"../../escape": "00"}}',
        b'{"sha256": {"config.json": 1, "model.safetensors": 2, "tokenizer.json": 3}}',
    ],
)
def test_a_manifest_that_is_none_is_refused(manifest, storage, uri, home):
    """A manifest decides hashes, and neither names nor places: others are refused."""
    storage.put(f"{uri.rpartition('/')[2]}/manifest.json", manifest)
    assert refused(uri, home).startswith(f"{uri}: manifest.json: ")
    assert not (home / "models").exists()


def test_a_file_beyond_reason_is_not_fetched(storage, uri, home):
    """A configuration of a megabyte is refused by its size, before it is read."""
    storage.put(f"{uri.rpartition('/')[2]}/config.json", b" " * (2**20 + 1))
    assert refused(uri, home) == f"{uri}/config.json: 1048577 bytes are more than it may be"


def test_no_permission_says_which_is_needed(storage, uri, home):
    """Without the right to read, the line names the role."""
    storage.relay.status = 403
    assert "roles/storage.objectViewer" in refused(uri, home)


def test_no_credentials_are_told(home, monkeypatch, tmp_path):
    """Outside Google Cloud and without a login, the line says how to log in."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert "gcloud auth application-default login" in refused("gs://models/x", home)


def test_a_server_that_is_away_is_told(storage, uri, home):
    """What stays unreachable for the time of all tries is one line."""
    storage.relay.status = 503
    assert refused(uri, home, retry_seconds=0.3).startswith(f"{uri}: cannot be fetched: ")


def test_too_little_room_is_told_before_it_is_used(storage, uri, home, monkeypatch):
    """With less room than the model needs nothing is fetched, and the line has both numbers."""
    usage = shutil.disk_usage("/")._replace(free=10_000)
    monkeypatch.setattr(model_source.shutil, "disk_usage", lambda _path: usage)
    said = refused(uri, home)
    assert "the disk is full" in said
    assert "0.0 MiB were free" in said
    assert storage.relay.ranges("model.safetensors") == []


def test_a_disk_that_fills_up_is_told(uri, home, monkeypatch):
    """A write that fails for want of room ends the fetch, and gives the room back."""
    opened = Path.open

    def on_a_full_disk(path, mode="r", *more, **how):
        file = opened(path, mode, *more, **how)
        return FullDisk(file) if mode == "a+b" and path.suffix == ".safetensors" else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", on_a_full_disk)
        assert "the disk is full" in refused(uri, home)
    assert not list((home / "models").glob("*.partial"))
    assert checkpoint.load(fetch(uri, home))


class FullDisk:
    """A file whose third write finds no room."""

    def __init__(self, file):
        self._file, self._writes = file, 0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        self._writes += 1
        if self._writes == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(data)


def test_a_home_that_cannot_be_written_is_told(uri, tmp_path):
    """A cache that cannot be made is one line that names it."""
    (tmp_path / "home").write_text("a file")
    with pytest.raises(ModelSourceError, match="home/models: Not a directory"):
        fetch(uri, tmp_path / "home")
