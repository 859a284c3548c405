"""`python -m auth`: the admin's command line, on the secret store and Redis directly.

Exit status 0: done. 1: refused or failed, with the reason in one line on stderr. 2: usage.
"""

from __future__ import annotations

import getpass
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import structlog

from auth.audit import Actor
from auth.cli_output import as_json, as_text
from auth.cli_parser import parser
from auth.config import AuthSettings, SettingsError
from auth.embedded_redis import EmbeddedRedisError, ensure
from auth.errors import AuthError
from auth.propagation import ADMIN_TIMEOUT_SECONDS
from auth.secrets import SecretStoreError
from auth.stores import open_stores


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    args = parser(int(time.time())).parse_args(argv)
    # Answers go to stdout, alone; of the log only what went wrong is for the terminal.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        answer = _run(args)
    except (
        *(AuthError, SecretStoreError, SettingsError, EmbeddedRedisError),
        *(ValueError, OSError),  # a plans file that is wrong; a home that cannot be written
    ) as exc:
        print(f"refused: {exc}", file=sys.stderr)
        return 1
    print(as_json(answer) if args.json else as_text(args.room, answer))
    for warning in answer.get("warnings", ()) if isinstance(answer, dict) else ():
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _run(args: Any) -> Any:
    settings = AuthSettings.from_env()
    with ExitStack() as exits:
        redis_url = settings.redis_url
        if redis_url is None:
            redis_url = exits.enter_context(ensure(settings.home)).url
        stores = open_stores(settings, redis_url, redis_timeout_seconds=ADMIN_TIMEOUT_SECONDS)
        exits.callback(stores.close)
        return args.run(stores.admin(Actor(f"cli:{_user()}", socket.gethostname())), args)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return str(os.getuid())


if __name__ == "__main__":
    sys.exit(main())
