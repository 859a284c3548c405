"""What a shell makes of a pasted curl line, on a machine that may have no curl."""

from __future__ import annotations

import itertools
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """The request that curl would send."""

    url: str
    headers: dict[str, str]
    data: bytes


def pasted(line: str, **environ: str) -> Request:
    """Let a shell expand and quote the line as it does for a person, and read curl's arguments."""
    script = 'curl() { for one in "$@"; do printf \'%s\\0\' "$one"; done; }\n' + line
    ended = subprocess.run(["/bin/sh", "-c", script], env=environ, capture_output=True, check=True)
    words = ended.stdout.decode().split("\0")[:-1]
    pairs = list(itertools.pairwise(words))
    return Request(
        url=next(word for word in words if word.startswith("http")),
        headers=dict(value.split(": ", 1) for flag, value in pairs if flag == "-H"),
        data=next(value for flag, value in pairs if flag in ("-d", "--data-raw")).encode(),
    )
