"""Own one redis-server for as long as anybody uses it, then stop it and leave.

Run as a process of its own (`python redis_keeper.py USERS_LOCK COMMAND...`) by `embedded_redis`.
Every user holds a shared lock on USERS_LOCK; this process waits for the exclusive one. The kernel
gives it out when the last user has closed the file or died, by whatever signal, so no user has to
say goodbye. When the server itself ends, the keeper ends too, and the next user starts both anew.

Only the standard library is imported: the file runs isolated, outside the package.
"""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

STOP_SECONDS = 10.0  # redis flushes its append-only file on SIGTERM; this bounds a stuck disk


class _Leave(Exception):  # noqa: N818 - a signal to leave, not an error
    """Raised from signal handlers: blocking calls are resumed unless a handler raises."""


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise _Leave


def keep(users_lock: Path, command: list[str]) -> int:
    """Run `command` until the exclusive lock on `users_lock` is free; return its exit status."""
    with users_lock.open("rb") as users:
        # The command is the server binary that embedded_redis has just located.
        server = subprocess.Popen(command)  # noqa: S603

        def on_child(number: int, frame: FrameType | None) -> None:
            if server.poll() is not None:  # it may as well have been stopped, or go on
                _leave(number, frame)

        signal.signal(signal.SIGTERM, _leave)
        signal.signal(signal.SIGCHLD, on_child)
        try:
            if server.poll() is None:
                fcntl.flock(users, fcntl.LOCK_EX)
        except _Leave:
            pass
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> int:
    server.terminate()
    try:
        return server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        return server.wait()


if __name__ == "__main__":
    sys.exit(keep(Path(sys.argv[1]), sys.argv[2:]))
