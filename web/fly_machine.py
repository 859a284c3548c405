"""On a Fly machine: take the socket that tells who it is, then stop being root, before all else.

The socket is root's, and the app shall not be: the image for Fly begins as root (fly.toml), gives
the socket to the user that every other image begins as, and becomes that user for good. A process
that did not begin as root stays what it is. What cannot be done is an OSError.
"""

from __future__ import annotations

import os
from pathlib import Path

APP_USER = 10001  # user and group; the Dockerfile's


def step_down(socket_path: Path) -> None:
    """Give the socket to the app's user, if it is there, and become that user."""
    if os.getuid() != 0:
        return
    if socket_path.is_socket():
        os.chown(socket_path, APP_USER, APP_USER)
    os.setgroups([])
    os.setgid(APP_USER)
    os.setuid(APP_USER)
