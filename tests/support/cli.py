"""The admin's command line as an admin runs it: a process of its own that prints JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def auth(environ: dict[str, str], *arguments: str) -> Any:
    """Run `python -m auth ARGUMENTS --json` and return the document it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "auth", *arguments, "--json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
