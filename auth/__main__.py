"""`python -m auth`: the admin's command line, on the secret store and Redis or through the API.

Exit status 0: done. 1: refused or failed, with the reason in one line on stderr. 2: usage.
130: interrupted.
"""

from __future__ import annotations

import getpass
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from auth import cli_log
from auth.audit import Actor
from auth.cli_commands import keys_revoke
from auth.cli_output import as_json, as_text
from auth.cli_parser import parser
from auth.config import AuthSettings, RemoteSettings, SettingsError, log_format
from auth.csv_rows import as_csv
from auth.embedded_redis import EmbeddedRedisError, ensure
from auth.errors import AuthError
from auth.propagation import ADMIN_TIMEOUT_SECONDS
from auth.remote import RemoteAdmin
from auth.remote_call import Remote
from auth.secrets import SecretStoreError
from auth.stores import open_stores


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    args = parser(int(time.time())).parse_args(argv)
    try:
        cli_log.configure(log_format(terminal=sys.stderr.isatty()))
        answer = _run(args)
    except KeyboardInterrupt:
        print("interrupted: a change may have been made; look before again", file=sys.stderr)
        return 130
    except (
        *(AuthError, SecretStoreError, SettingsError, EmbeddedRedisError),
        *(ValueError, OSError),  # a plans file that is wrong; a home that cannot be written
    ) as exc:
        print(f"refused: {exc}", file=sys.stderr)
        return 1
    if not args.json and getattr(args, "answers_csv", False):
        print(as_csv(answer))
    else:
        print(as_json(answer) if args.json else as_text(args.room, answer))
    rows = [
        one for one in (answer if isinstance(answer, list) else [answer]) if isinstance(one, dict)
    ]
    for warning in dict.fromkeys(one for row in rows for one in row.get("warnings", ())):
        print(f"warning: {warning}", file=sys.stderr)
    failed = sum("error" in row for row in rows)
    if failed:
        print(f"refused: {failed} of {len(rows)} rows were not done", file=sys.stderr)
    pending = args.run is keys_revoke and any(row.get("written") is False for row in rows)
    return 1 if failed or pending else 0


def _run(args: Any) -> Any:
    remote = RemoteSettings.from_env(args.api)
    if remote is not None:
        return args.run(RemoteAdmin(Remote(remote.url, remote.key)), args)
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
