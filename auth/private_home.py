"""The folder of a machine's own state (`QUILLGATE_HOME`): made for its owner alone, 0700.

One that is there already with wider rights is narrowed if it is ours and nothing but our state is
in it. One that holds other things is left as it is, since whoever keeps them there may want them
read; what is ours in it is 0700 and 0600 by itself. OSError passes through.
"""

from __future__ import annotations

import os
from pathlib import Path

OWN = ("secrets", "redis", "models", "web-")  # how the names begin of what we keep there


def private_home(home: Path) -> Path:
    """Make the folder, or narrow it; return it."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = home.stat()
    wide = found.st_mode & 0o077 and found.st_uid == os.getuid()
    if wide and all(path.name.startswith(OWN) for path in home.iterdir()):
        home.chmod(0o700)
    return home
