"""`make run`: the API and the web app on this machine, with Redis, users and keys of their own.

The first start makes a tenant, two users and their keys and shows them once. A port in use, a
child that dies or does not get ready: one line on stderr, everything is stopped, exit status 1.
Ctrl-C (SIGINT), SIGTERM and a closed terminal stop everything too, with exit status 0.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import structlog

from auth.config import AuthSettings, SettingsError, integer
from auth.embedded_redis import EmbeddedRedis, EmbeddedRedisError, ensure
from auth.errors import AuthError
from auth.private_home import private_home
from auth.secrets import SecretStoreError
from deploy.first_start import NewUser, first_start

HOST = "127.0.0.1"
READY_SECONDS = 180.0  # a cold disk under torch, on a small machine
STOP_SECONDS = 15.0  # the API gives its streams 6 s
PROBE_SECONDS = 2.0


class LocalError(Exception):
    """The stack cannot run; the message is one line for a person."""


@dataclass(frozen=True)
class Child:
    """One of the two services, as a process of its own."""

    name: str
    process: subprocess.Popen[bytes]
    probe: str  # answers 200 when the service can be used


def main() -> int:
    """Run the stack until it is told to stop; return the exit status."""
    stop = threading.Event()
    received: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    # Of what the operations log, only what went wrong is for this terminal.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        run(os.environ, stop, received)
    except (
        *(LocalError, SettingsError, EmbeddedRedisError, AuthError, SecretStoreError),
        *(ValueError, OSError),  # a plans file that is wrong; a home that cannot be written
    ) as failure:
        print(f"make run: {failure}", file=sys.stderr)
        return 1
    return 0


def run(environ: Mapping[str, str], stop: threading.Event, received: list[int]) -> None:
    """Start everything, say what to open, and hold it until `stop` is set or a child ends."""
    settings = AuthSettings.from_env(environ)
    ports = {
        name: integer(environ, name, default, least=1, most=65535)
        for name, default in (("API_PORT", 8080), ("WEB_PORT", 8501))
    }
    if ports["API_PORT"] == ports["WEB_PORT"]:
        raise LocalError("API_PORT and WEB_PORT must differ")
    for name, port in ports.items():
        if not is_free(port):
            raise LocalError(f"port {port} is in use: choose another with {name}=...")

    private_home(settings.home)
    with ExitStack() as exits:
        # Held until the end, so that Redis outlives both services.
        redis_url, look_after = settings.redis_url, _nobody
        if redis_url is None:
            redis = exits.enter_context(ensure(settings.home))
            redis_url, look_after = redis.url, partial(revive, redis, settings.home)
        fresh = first_start(settings, redis_url)
        api_url = f"http://{HOST}:{ports['API_PORT']}"
        web_url = f"http://{HOST}:{ports['WEB_PORT']}"
        shared = {**environ, "HOST": HOST, "QUILLGATE_HOME": str(settings.home.resolve())}
        try:
            children = exits.enter_context(stopping(received))
            children.append(
                start("api", {**shared, "PORT": str(ports["API_PORT"])}, f"{api_url}/ready")
            )
            web_environ = {**shared, "PORT": str(ports["WEB_PORT"]), "GPT_API_URL": api_url}
            children.append(start("web", web_environ, f"{web_url}/_stcore/health"))
            ready = wait_until_ready(children, stop)
        finally:
            # Whatever became of the services: what was just made is shown here or nowhere.
            if fresh:
                print(shown_once(fresh, api_url), flush=True)
        if ready:
            print(what_to_open(api_url, web_url, fresh), flush=True)
            hold(children, stop, look_after)


def is_free(port: int) -> bool:
    """Say whether nothing listens on the port; a connection that just closed does not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def start(room: str, environ: Mapping[str, str], probe: str) -> Child:
    """Start `python -m room` in a process group of its own, so that Ctrl-C reaches us alone."""
    command = [sys.executable, "-m", room]
    process = subprocess.Popen(  # noqa: S603 - our own modules
        command, env=dict(environ), stdin=subprocess.DEVNULL, process_group=0
    )
    return Child(room, process, probe)


@contextmanager
def stopping(received: list[int]) -> Iterator[list[Child]]:
    """Yield a list for children; stop them all at the end, with the signal that we were sent."""
    children: list[Child] = []
    try:
        yield children
    finally:
        number = signal.SIGINT if received[:1] == [signal.SIGINT] else signal.SIGTERM
        alive = [child.process for child in children if child.process.poll() is None]
        for process in alive:
            process.send_signal(number)
        deadline = time.monotonic() + STOP_SECONDS
        while any(process.poll() is None for process in alive):
            # A second Ctrl-C, or too long: no more waiting.
            if len(received) > 1 or time.monotonic() > deadline:
                for process in alive:
                    process.kill()
            time.sleep(0.05)


def wait_until_ready(children: list[Child], stop: threading.Event) -> bool:
    """Return True when every child answers its probe, False when told to stop before."""
    deadline = time.monotonic() + READY_SECONDS
    waiting = list(children)
    while waiting:
        check(children)
        if stop.wait(0.1):
            return False
        child, reason = waiting[0], why_not_ready(waiting[0].probe)
        if not reason:
            waiting.pop(0)
        elif "failed" in reason:
            raise LocalError(f"{child.name} cannot start: {reason}")
        elif time.monotonic() > deadline:
            raise LocalError(f"{child.name} is not ready after {READY_SECONDS:.0f} s: {reason}")
    return True


def hold(children: list[Child], stop: threading.Event, look_after: Callable[[], None]) -> None:
    """Return when `stop` is set; raise LocalError when a child ends by itself."""
    while not stop.wait(0.5):
        check(children)
        look_after()


def revive(redis: EmbeddedRedis, home: Path) -> None:
    """Start a Redis of ours that was killed again, where the services look for it."""
    if redis.ended:
        ensure(home).close()  # `redis` still holds it
        print("make run: Redis had ended and was started again", file=sys.stderr)


def _nobody() -> None:
    """A Redis of somebody else is theirs to look after."""


def check(children: list[Child]) -> None:
    for child in children:
        status = child.process.poll()
        if status is not None:
            raise LocalError(f"python -m {child.name} ended with status {status}; see above")


def why_not_ready(url: str) -> str:
    """Return "" once a probe is answered 200; until then what the service says it lacks."""
    try:
        with urllib.request.urlopen(url, timeout=PROBE_SECONDS):  # noqa: S310 - our own, http
            return ""
    except urllib.error.HTTPError as refused:
        with refused, contextlib.suppress(OSError, ValueError, AttributeError):
            checks = json.load(refused).get("checks", {})
            return ", ".join(f"{part} {state}" for part, state in checks.items() if state != "ok")
        return f"status {refused.code}"
    except OSError:
        return "no answer yet"


def shown_once(fresh: list[NewUser], api_url: str) -> str:
    """Return the block that is printed on the first start only."""
    lines = ["", "First start. Keep these: they are shown only now.", ""]
    for user in fresh:
        lines.append(f"  user {user.name:<6} password {user.password}")
        lines.append(f"  {'':<11} API key  {user.key}")
    curl = (
        f"curl -s {api_url}/generate -H 'X-API-Key: {fresh[0].key}'"
        """ -H 'Content-Type: application/json' -d '{"seed": 42, "num_chars": 300}'"""
    )
    lines += ["", "The same seed gives the same text:", "", f"  {curl}"]
    return "\n".join(lines)


def what_to_open(api_url: str, web_url: str, fresh: list[NewUser]) -> str:
    """Return the block that is printed on every start."""
    lines = [
        "",
        f"Open {web_url} and log in as demo (or admin).",
        f"The API is {api_url}; {api_url}/docs describes it.",
    ]
    if not fresh:
        lines.append("New password: .venv/bin/python -m auth users set-password demo")
    return "\n".join([*lines, "Ctrl-C stops everything.", ""])


if __name__ == "__main__":
    sys.exit(main())
