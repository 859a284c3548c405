"""The programs that a page shows, run as a person runs them: pasted, with a key in the environment.

curl is the machine's, or its few options in Python where there is none; JavaScript is run by the
Node.js that Playwright brings along for itself, so that it runs wherever a browser test does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import playwright

CURL = Path(__file__).with_name("curl.py")
NODE = Path(playwright.__file__).parent / "driver" / "node"


def run_shown(language: str, program: str, environ: Mapping[str, str]) -> str:
    """Return what the program writes; raise where it fails."""
    if language == "curl" and shutil.which("curl") is None:
        program = f'curl() {{ "{sys.executable}" "{CURL}" "$@"; }}\n{program}'
    command = {
        "curl": ["/bin/sh", "-c", program],
        "Python": [sys.executable, "-c", program],
        "JavaScript": [str(NODE), "--input-type=module", "--eval", program],
    }[language]
    path = {"PATH": os.environ.get("PATH", "")}
    ended = subprocess.run(
        command, env=path | dict(environ), capture_output=True, check=True, text=True, timeout=60
    )
    return ended.stdout
