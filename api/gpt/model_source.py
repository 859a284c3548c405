"""Where a model is: a directory, or gs://bucket/prefix, fetched into a cache of whole models.

Files are fetched in ranges, several at a time, hashed while they are written, and published by one
rename when all have the hashes of the manifest: a directory in the cache is whole. A download that
was cut goes on where it stopped, also in another process; two processes fetch once. Requests are
tried again for `RETRY_SECONDS`; what then still fails raises `ModelSourceError` with one line.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.gpt.checkpoint import FILES, LIMITS, CheckpointError, manifest_hashes
from api.gpt.shown import shown

RETRY_SECONDS = 60.0  # for each request, with growing pauses
TIMEOUT_SECONDS = (10.0, 30.0)  # to connect; without a byte
RANGE_BYTES = 8 * 2**20
PARALLEL = 8  # ranges under way; what is fetched and not yet written is at most that many
WEIGHTS_LIMIT = 64 * 2**30  # bytes

log = logging.getLogger(__name__)


class ModelSourceError(Exception):
    """The model cannot be had; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class _Object:
    """One version of an object of a bucket."""

    name: str
    size: int
    generation: int


def directory_of(
    uri: str,
    home: Path,
    *,
    retry_seconds: float = RETRY_SECONDS,
    range_bytes: int = RANGE_BYTES,
) -> Path:
    """Return the directory of a model; one of a bucket is fetched under `home` first."""
    if not uri.startswith("gs://"):
        return Path(uri)
    bucket = _Bucket(uri, retry_seconds)
    try:
        return _fetched(bucket, home / "models", range_bytes)
    except OSError as exc:
        raise ModelSourceError(f"{home / 'models'}: {exc.strerror or exc}") from exc


def _fetched(bucket: _Bucket, cache: Path, range_bytes: int) -> Path:
    manifest = bucket.read("manifest.json")
    try:
        hashes = manifest_hashes(manifest)
    except CheckpointError as exc:
        raise ModelSourceError(f"{bucket.uri}: {exc}") from exc
    key = hashlib.sha256(manifest).hexdigest()[:32]
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    whole, partial = cache / key, cache / f"{key}.partial"
    with _locked(cache / f"{key}.lock"):
        if _is_whole(whole, hashes):
            return whole
        partial.mkdir(mode=0o700, exist_ok=True)
        _fetch(bucket, partial, hashes, range_bytes)
        (partial / "manifest.json").write_bytes(manifest)
        shutil.rmtree(whole, ignore_errors=True)  # it was damaged
        partial.rename(whole)
    log.info("fetched %s into %s", bucket.uri, whole)
    return whole


def _fetch(bucket: _Bucket, partial: Path, hashes: dict[str, str], range_bytes: int) -> None:
    """Fetch what is missing. What was fetched stays for the next try, unless the disk is full."""
    objects = {file: bucket.look_up(file) for file in FILES}
    there = sum(path.stat().st_size for path in partial.iterdir())
    missing = sum(found.size for found in objects.values()) - there
    free = shutil.disk_usage(partial).free
    try:
        if missing > free:
            raise OSError(errno.ENOSPC, "no space")
        with (
            ThreadPoolExecutor(len(FILES), "fetch-file") as files,
            ThreadPoolExecutor(PARALLEL, "fetch-range") as pool,
        ):
            download = _Download(bucket, pool, range_bytes)
            under_way = [
                files.submit(download.file, found, partial / file, hashes[file])
                for file, found in objects.items()
            ]
            for file in under_way:
                file.result()
    except OSError as exc:
        if exc.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        shutil.rmtree(partial, ignore_errors=True)
        raise ModelSourceError(
            f"{partial.parent}: the disk is full: {bucket.uri} needs {missing / 2**20:.1f} MiB, "
            f"{free / 2**20:.1f} MiB were free; make room or move QUILLGATE_HOME"
        ) from exc


@dataclass(frozen=True, slots=True)
class _Download:
    """Files of one bucket on their way to disk."""

    bucket: _Bucket
    pool: ThreadPoolExecutor  # of the ranges
    range_bytes: int

    def file(self, found: _Object, path: Path, sha256: str) -> None:
        """Add to a file what it lacks. Raise ModelSourceError unless it then has this hash."""
        resumed = path.exists()
        if resumed and path.stat().st_size > found.size:
            path.unlink()
        digest = hashlib.sha256()
        with path.open("a+b") as file:
            file.seek(0)
            while block := file.read(2**20):
                digest.update(block)
            for data in self._from(found, file.tell()):
                digest.update(data)
                file.write(data)
                file.flush()  # so that a process that is killed leaves it to the next
        if digest.hexdigest() == sha256:
            return
        path.unlink()
        if not resumed:
            raise ModelSourceError(
                f"{self.bucket.uri}/{path.name}: its SHA-256 is not the one in manifest.json"
            )
        self.file(found, path, sha256)  # what was there from the last time may be to blame

    def _from(self, found: _Object, start: int) -> Iterator[bytes]:
        """Yield an object's bytes from `start` on, in order, fetched several ranges at a time."""
        ahead: deque[Future[bytes]] = deque()
        try:
            for first in range(start, found.size, self.range_bytes):
                ahead.append(
                    self.pool.submit(self.bucket.read_range, found, first, self.range_bytes)
                )
                if len(ahead) == PARALLEL:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


class _Bucket:
    """The objects under one prefix, and what is said when they cannot be had."""

    def __init__(self, uri: str, retry_seconds: float) -> None:
        # Google's client: only where a model is fetched with it.
        from google.cloud.storage import Client
        from google.cloud.storage.retry import DEFAULT_RETRY

        self.uri = uri.rstrip("/")
        self._name, _, self._prefix = self.uri.removeprefix("gs://").partition("/")
        self._how: dict[str, Any] = {
            "timeout": TIMEOUT_SECONDS,
            "retry": DEFAULT_RETRY.with_timeout(retry_seconds),
        }
        with self._told():
            self._client = Client()
            self._bucket = self._client.bucket(self._name)

    def look_up(self, file: str) -> _Object:
        """Return an object's size and version. Raise ModelSourceError, also if it is too large."""
        with self._told(file):
            blob = self._bucket.blob(f"{self._prefix}/{file}")
            blob.reload(**self._how)
        if blob.size > LIMITS.get(file, WEIGHTS_LIMIT):
            raise ModelSourceError(f"{self.uri}/{file}: {blob.size} bytes are more than it may be")
        return _Object(blob.name, blob.size, blob.generation)

    def read(self, file: str) -> bytes:
        found = self.look_up(file)
        return self.read_range(found, 0, found.size)

    def read_range(self, found: _Object, start: int, size: int) -> bytes:
        """Return at most `size` bytes from `start` on."""
        end = min(start + size, found.size) - 1
        if end < start:
            return b""
        with self._told(found.name.rpartition("/")[2]):
            blob = self._bucket.blob(found.name, generation=found.generation)
            data: bytes = blob.download_as_bytes(
                start=start, end=end, raw_download=True, checksum=None, **self._how
            )
        if len(data) != end - start + 1:
            raise ModelSourceError(f"{self.uri}: {found.name}: the answer was cut short")
        return data

    @contextlib.contextmanager
    def _told(self, file: str = "") -> Iterator[None]:
        """Turn what Google's client raises into one line."""
        from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, Unauthorized
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
        from requests.exceptions import RequestException

        try:
            yield
        except NotFound as exc:
            raise ModelSourceError(self._what_is_missing(file)) from exc
        except (Forbidden, Unauthorized) as exc:
            raise ModelSourceError(
                f"{self.uri}: no permission to read it; this process's service account needs "
                "roles/storage.objectViewer on the bucket"
            ) from exc
        except DefaultCredentialsError as exc:
            raise ModelSourceError(
                f"{self.uri}: no Google credentials; run `gcloud auth application-default login` "
                "or give the process a service account"
            ) from exc
        except (GoogleAPIError, GoogleAuthError, RequestException) as exc:
            why = shown(" ".join(str(exc).split()), most=300)
            raise ModelSourceError(f"{self.uri}: cannot be fetched: {why}") from exc

    def _what_is_missing(self, file: str) -> str:
        """Tell a bucket that is not there from a file, as far as one may look."""
        from google.api_core.exceptions import GoogleAPIError

        try:
            bucket = self._client.lookup_bucket(self._name, **self._how)
        except GoogleAPIError:  # reading objects does not give the right to look at the bucket
            return f"{self.uri}: there is no {file} in it, or no such bucket"
        if bucket is None:
            return f"{self.uri}: there is no bucket {self._name}"
        return f"{self.uri}: there is no {file} in it"


def _is_whole(directory: Path, hashes: dict[str, str]) -> bool:
    for file in FILES:
        try:
            with (directory / file).open("rb") as data:
                if hashlib.file_digest(data, "sha256").hexdigest() != hashes[file]:
                    return False
        except FileNotFoundError:
            return False
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends. Waits for who holds it."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
