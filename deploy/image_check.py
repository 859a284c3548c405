"""Runs inside an image, fed to its Python by deploy/image.py: is it as promised, does it serve?

`python - api|web COMMAND HEALTH_CHECK`, both commands as JSON lists. An assertion that fails ends
it with its words. Standard library only; it must not need what the image does not have.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

with socket.socket() as probe:  # one that is free: buildah's image shares our network
    probe.bind(("127.0.0.1", 0))
    PORT: int = probe.getsockname()[1]
URL = f"http://127.0.0.1:{PORT}"
READY_SECONDS = 180
STOP_SECONDS = 10  # what Cloud Run and fly.toml give


def check_contents(target: str) -> None:
    """The user, the read-only root, and what must not be there."""
    assert os.getuid() == 10001, f"runs as {os.getuid()}"
    for folder in ("/", "/app", "/opt/venv", "/etc"):
        probe = Path(folder) / "written"
        try:
            probe.touch()
        except OSError:
            continue
        raise AssertionError(f"{folder} can be written")
    for program in ("gcc", "cc", "make", "git"):
        assert shutil.which(program) is None, f"{program} is in the image"
    check_packages(target)
    found = {path.name for path in Path("/app").iterdir()}
    allowed = {"api": {"api", "auth", "models"}, "web": {"auth", "web"}}[target]
    assert found == allowed, f"/app holds {sorted(found)}"
    hidden = list(Path("/app").rglob(".*"))
    assert not hidden, f"hidden files: {hidden[:3]}"
    assert list(Path("/app/auth/__pycache__").glob("*.pyc")), "bytecode was not compiled"
    has_torch = importlib.util.find_spec("torch") is not None
    assert has_torch == (target == "api"), f"torch: {has_torch}"
    kernels = list(Path("/app").rglob("kernels-*/*.nbc"))
    assert bool(kernels) == (target == "api"), "the generator's kernels were not compiled"


def check_packages(target: str) -> None:
    """No installer, of the base or of the environment; no package's own tests; nothing unlocked."""
    for program in ("pip", "pip3", "wheel"):
        assert shutil.which(program) is None, f"{program} is in the image"
    for module in ("pip", "ensurepip", "wheel"):
        assert importlib.util.find_spec(module) is None, f"{module} can be imported"
    listed = (path for root in ("/usr", "/opt") for path in Path(root).rglob("pip-*"))
    assert not [path for path in listed if path.suffix in {".dist-info", ".whl"}]
    packages = Path(sysconfig.get_path("purelib"))
    tests = [path for path in packages.rglob("test*") if path.name in {"test", "tests"}]
    assert not [path for path in tests if path.is_dir()], f"tests of packages: {tests[:3]}"
    setuptools = {path.name for path in packages.glob("setuptools-*")}
    assert len(setuptools) == (target == "api"), f"setuptools: {setuptools}"


def started(command: list[str]) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "PORT": str(PORT), "HOST": "127.0.0.1"}
    return subprocess.Popen(command, env=environ)


def wait_for(path: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        assert process.poll() is None, f"it ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"no {path} in {READY_SECONDS} s"
        try:
            with urllib.request.urlopen(URL + path, timeout=5):
                return
        except OSError:
            time.sleep(0.2)


def check_health(command: list[str]) -> None:
    environ = {**os.environ, "PORT": str(PORT)}
    done = subprocess.run(command, env=environ, check=False)
    assert done.returncode == 0, "the HEALTHCHECK says it is not well"


def auth(*arguments: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "auth", *arguments, "--json"], stdout=subprocess.PIPE, check=True
    )
    document: dict[str, str] = json.loads(done.stdout)
    return document


def asked(key: str, **fields: object) -> urllib.request.Request:
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    return urllib.request.Request(URL + "/generate", json.dumps(fields).encode(), headers)


def text(key: str, seed: int) -> str:
    with urllib.request.urlopen(asked(key, seed=seed, num_chars=120), timeout=120) as answer:
        written: str = json.load(answer)["text"]
    return written


def stops(process: subprocess.Popen[bytes], meanwhile: Callable[[], None]) -> None:
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    meanwhile()
    status = process.wait(STOP_SECONDS)
    elapsed = time.monotonic() - began
    assert status == 0, f"it ended with status {status}"
    assert elapsed < STOP_SECONDS, f"it took {elapsed:.1f} s to stop"
    print(f"stopped in {elapsed:.1f} s")


def check_api(process: subprocess.Popen[bytes], key: str) -> None:
    """It generates, the seed holds, a bad key is refused, and a stream survives SIGTERM."""
    wait_for("/ready", process)
    first, again, other = text(key, 42), text(key, 42), text(key, 43)
    assert len(first) == 120
    assert first == again, "the same seed gave another text"
    assert first != other
    try:
        text("qg_live_nobody", 42)
    except urllib.error.HTTPError as refused:
        assert refused.code == 401
    else:
        raise AssertionError("a key that is none was let in")

    long = asked(key, seed=1, num_chars=10_000, stream=True)
    with urllib.request.urlopen(long, timeout=60) as stream:
        while not stream.readline().startswith(b"event: text"):
            pass

        def read_on() -> None:
            events = [line for line in stream if line.startswith(b"event: ")]
            assert events[-1].strip() in (b"event: error", b"event: done"), events[-1]
            assert sum(event.strip() != b"event: text" for event in events) == 1

        stops(process, read_on)


def check_web(process: subprocess.Popen[bytes]) -> None:
    """It serves its page, and ends when told."""
    wait_for("/_stcore/health", process)
    with urllib.request.urlopen(URL, timeout=20) as page:
        assert page.status == 200
        assert b"<html" in page.read()
    stops(process, lambda: None)


def main() -> None:
    target, command, health = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    check_contents(target)
    if target == "api":
        auth("tenants", "add", "image", "--plan", "standard")
        key = auth("keys", "issue", "--tenant", "image", "--name", "test")["key"]
    process = started(command)
    try:
        if target == "api":
            wait_for("/ready", process)
            check_health(health)
            check_api(process, key)
        else:
            wait_for("/_stcore/health", process)
            check_health(health)
            check_web(process)
    finally:
        if process.poll() is None:
            process.kill()


if __name__ == "__main__":
    main()
