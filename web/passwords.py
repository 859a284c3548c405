"""Is this the person's password? Checked by streamlit-authenticator, one bcrypt for everybody.

Of streamlit-authenticator only the check of a password against a bcrypt hash is used: its cookie
is written by JavaScript, its lockout has no clock, and it answers at once for unknown users
(issues 91 and 237 of its repository). Here every attempt is one comparison at the same cost,
whether the name is known or not.
"""

from __future__ import annotations

import functools
import secrets
from collections import Counter
from collections.abc import Iterable

import bcrypt

MAX_PASSWORD_BYTES = 72  # bcrypt reads no further
DEFAULT_COST = 12
_CANDIDATE = "candidate"  # the one name in the credentials given to the checker


def password_matches(password: str, password_hash: str | None, all_hashes: Iterable[str]) -> bool:
    """Tell whether the password is the hash's. `None` stands for an unknown or disabled user.

    `all_hashes` are everybody's: an unknown user's attempt costs what most users' attempts cost.
    """
    from streamlit_authenticator.controllers import AuthenticationController

    usable = 0 < len(password.encode()) <= MAX_PASSWORD_BYTES and "\0" not in password
    compared = (
        password_hash if password_hash is not None else _nobodys_hash(_usual_cost(all_hashes))
    )
    checker = AuthenticationController(
        {"usernames": {_CANDIDATE: {"password": compared}}},
        auto_hash=False,
        secret_key=secrets.token_hex(32),
    )
    matches = checker.authentication_model.check_credentials(
        _CANDIDATE, password if usable else "an unusable password costs the same"
    )
    return bool(matches) and usable and password_hash is not None


def _usual_cost(hashes: Iterable[str]) -> int:
    costs = Counter(text.split("$")[2] for text in hashes if text.count("$") == 3)
    usual = costs.most_common(1)
    return int(usual[0][0]) if usual and usual[0][0].isdigit() else DEFAULT_COST


@functools.lru_cache(maxsize=4)
def _nobodys_hash(cost: int) -> str:
    """Return the hash of a password that nobody knows."""
    return bcrypt.hashpw(secrets.token_hex(16).encode(), bcrypt.gensalt(cost)).decode()
