"""The command that compiles: what it cannot do is one line."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("argument", "environ", "status", "said"),
    [
        ([], {"NUMBA_DISABLE_JIT": "1"}, 1, "NUMBA_DISABLE_JIT is set"),
        (["every"], {"NUMBA_DISABLE_JIT": "1"}, 1, "NUMBA_DISABLE_JIT is set"),
        (["z80"], {}, 2, "z80 is no kind of processor"),
    ],
    ids=str,
)
def test_what_cannot_be_compiled_is_one_line(argument, environ, status, said):
    """Compiling switched off, or a kind that does not exist: one line on stderr and its status."""
    done = subprocess.run(
        [sys.executable, "-m", "api.gpt.kernels", *argument],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(f"kernels: {said}")
    assert len(done.stderr.splitlines()) == 1
