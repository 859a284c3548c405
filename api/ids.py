"""Names for requests, generations and leases: no two alike, and no secrets.

The system's generator is asked once, at the start (and again after a fork), not for each name: a
system call gives up the interpreter to every other thread that serves. Nothing may be granted
because somebody knows such a name.
"""

from __future__ import annotations

import random


def unique(digits: int) -> str:
    """Return a random hexadecimal number of so many digits."""
    return f"{random.getrandbits(4 * digits):0{digits}x}"
