"""A file that its owner alone may read, replaced whole: whoever reads it finds the old or the new.

The caller decides what it means that it cannot be written: OSError is raised.
"""

from __future__ import annotations

import contextlib
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path`, mode 0600. One writer at a time, says the caller."""
    partial = path.with_suffix(".partial")
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    partial.touch(mode=0o600, exist_ok=False)
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
