"""The grammar of `python -m auth`; what cannot be parsed ends with exit status 2."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

from auth import cli_commands as commands
from auth import cli_limits, cli_usage
from auth.admin_peppers import PEPPER_DEADLINE_SECONDS
from auth.admin_rotation import DEADLINE_SECONDS, GRACE_SECONDS
from auth.csv_rows import DEFAULT_SCOPES, ISSUE_COLUMNS, REVOKE_COLUMNS
from auth.failures import SHOWN_HOURS
from auth.rights import Identity
from auth.users import Role
from auth.views import DAY_SECONDS

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": DAY_SECONDS, "w": 7 * DAY_SECONDS}
_EXPIRY = "a duration like 90d, a date like 2027-01-31 or a time like 2027-01-31T12:00:00Z"

# argparse has no public name for what add_subparsers returns.
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - see above


def duration(text: str) -> int:
    """Return the seconds of `7d`, `12h`, `30m`, `60s` or `2w`."""
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration like 7d, 12h, 30m or 60s")
    return int(match[1]) * _UNITS[match[2]]


def expiry(now: int) -> Callable[[str], int]:
    """Return the reader of an expiry, given the time that durations count from."""

    def read(text: str) -> int:
        if re.fullmatch(r"[0-9]{1,6}[smhdw]", text):
            return now + duration(text)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {_EXPIRY}") from None
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())

    return read


def words(text: str) -> list[str]:
    """Return the parts of a comma list; an empty text is an empty list."""
    return [one.strip() for one in text.split(",") if one.strip()]


def positive(text: str) -> int:
    """Return an integer of at least 1."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def parser(now: int) -> argparse.ArgumentParser:
    """Return the parser; `args.run(admin, args)` does what was asked for."""
    top = argparse.ArgumentParser(
        prog="python -m auth",
        description="Tenants, API keys, web users and their audit. Works on the secret store and "
        "Redis that the environment names or, with --api, through the API.",
    )
    top.add_argument(
        "--api",
        metavar="URL",
        help="work through this API with the admin key in QUILLGATE_ADMIN_KEY (QUILLGATE_API_URL)",
    )
    rooms = top.add_subparsers(dest="room", required=True, metavar="COMMAND")
    _tenants(_room(rooms, "tenants", "who has keys"))
    _keys(_room(rooms, "keys", "API keys: issue, rotate, revoke"), now)
    _users(_room(rooms, "users", "who may log in to the web app"))
    _pepper(_room(rooms, "pepper", "what secrets are digested under"))
    audit = _room(rooms, "audit", "who changed what")
    listing = _command(audit, "list", commands.audit_list, "show the audit chain")
    listing.add_argument("--limit", type=positive, metavar="N", help="only the last N records")
    _command(audit, "verify", commands.audit_verify, "prove the chain whole")
    text = "failed authentications by reason and by address"
    _command(rooms, "failures", commands.failures, text).add_argument(
        "--hours", type=positive, default=SHOWN_HOURS, metavar="N", help="the last N (24)"
    )
    usage = _room(rooms, "usage", "what keys used, by day")
    text = "show what each key used on each day of the last 400"
    cli_usage.add_export(_command(usage, "export", cli_usage.export, text))
    text = "restore the ledger from the log lines of settled requests"
    cli_usage.add_rebuild(_command(usage, "rebuild", cli_usage.rebuild, text))
    secrets = _room(rooms, "secrets", "what this identity may do")
    check = _command(secrets, "check", commands.secrets_check, "try every right that is needed")
    check.add_argument(
        "--identity",
        choices=[one.value for one in Identity],
        default=Identity.OPERATOR.value,
        help="whose rights this process should have (operator)",
    )
    grants = _command(
        secrets, "grants", commands.secrets_grants, "print the gcloud lines of all rights"
    )
    for command in (check, grants):
        command.add_argument(
            "--web-users", action="store_true", help="of an API that keeps web users too (optional)"
        )
    return top


def _room(rooms: Subparsers, name: str, text: str) -> Subparsers:
    return rooms.add_parser(name, help=text, description=text).add_subparsers(
        dest="command", required=True, metavar="COMMAND"
    )


def _command(
    room: Subparsers, name: str, run: commands.Command, text: str
) -> argparse.ArgumentParser:
    added = room.add_parser(name, help=text, description=text)
    added.add_argument("--json", action="store_true", help="print one JSON document")
    # Before or after the command: a default here would undo what was said before it.
    added.add_argument("--api", metavar="URL", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    added.set_defaults(run=run)
    return added


def _tenants(room: Subparsers) -> None:
    add = _command(room, "add", commands.tenants_add, "add a tenant; the first sets up the store")
    add.add_argument("tenant")
    add.add_argument("--plan", default="free", help="of its keys, unless they have one (free)")
    _command(room, "list", commands.tenants_list, "show all tenants")
    for name, run, text in (
        ("show", commands.tenants_show, "show a tenant and its keys"),
        ("disable", commands.tenants_disable, "refuse all keys of a tenant"),
        ("enable", commands.tenants_enable, "accept the keys of a tenant again"),
    ):
        _command(room, name, run, text).add_argument("tenant")
    plan = _command(room, "set-plan", commands.tenants_set_plan, "change the plan; usage stays")
    plan.add_argument("tenant")
    plan.add_argument("plan")
    text = "cap what all keys of a tenant use together; `none` ends a cap"
    cli_limits.add_set_caps(_command(room, "set-caps", cli_limits.set_caps, text))


def _keys(room: Subparsers, now: int) -> None:
    issue = _command(room, "issue", commands.keys_issue, "issue a key and show it once")
    issue.add_argument("--tenant", required=True)
    issue.add_argument("--name", required=True, help="what the key is for")
    issue.add_argument(
        "--scopes",
        type=words,
        default=list(DEFAULT_SCOPES),
        help="comma list of generate, usage:read, key:rotate, admin (all but admin)",
    )
    issue.add_argument("--plan", help="of this key (the tenant's)")
    issue.add_argument("--expires", type=expiry(now), metavar="WHEN", help=_EXPIRY)
    issue.add_argument(
        "--cidrs", type=words, default=[], help="comma list of networks it may be used from"
    )
    _bulk(room, now)
    listing = _command(room, "list", commands.keys_list, "show keys")
    listing.add_argument("--tenant", help="only this tenant's")
    listing.add_argument(
        "--unused-days", type=positive, metavar="N", help="only active ones not used for N days"
    )
    _command(room, "show", commands.keys_show, "show a key").add_argument("key_id")
    change = _command(room, "set", commands.keys_set, "change what a key may do")
    change.add_argument("key_id")
    change.add_argument("--name")
    change.add_argument("--plan", help="a plan, or `tenant` for the tenant's")
    change.add_argument("--scopes", type=words)
    change.add_argument(
        "--expires",
        type=lambda text: text if text == "never" else expiry(now)(text),
        metavar="WHEN",
        help=f"{_EXPIRY}, or never",
    )
    change.add_argument("--cidrs", type=words, help="comma list; empty allows every address")
    text = "give a key limits of its own; `none` is the plan's again"
    cli_limits.add_set_limits(_command(room, "set-limits", cli_limits.set_limits, text))
    rotate = _command(room, "rotate", commands.keys_rotate, "give a key a new secret, shown once")
    rotate.add_argument("key_id")
    rotate.add_argument(
        "--deadline",
        type=duration,
        default=DEADLINE_SECONDS,
        metavar="DURATION",
        help="the old secret ends then at the latest (7d); 0s ends it at once",
    )
    rotate.add_argument(
        "--grace",
        type=duration,
        default=GRACE_SECONDS,
        metavar="DURATION",
        help="... and this long after the first use of the new one (1h)",
    )
    rotate.add_argument(
        "--force", action="store_true", help="also while two secrets live: the older one ends"
    )
    cancel = _command(
        room, "cancel-rotation", commands.keys_cancel, "take back a new secret that was never used"
    )
    cancel.add_argument("key_id")
    revoke = _command(room, "revoke", commands.keys_revoke, "refuse a key from now on, for ever")
    revoke.add_argument("key_id")
    revoke.add_argument("--reason", help="for the audit chain")


def _bulk(room: Subparsers, now: int) -> None:
    issue = _command(
        room, "issue-many", commands.keys_issue_many, "issue the keys of a CSV, print them as CSV"
    )
    issue.add_argument("file", help=f"columns {', '.join(ISSUE_COLUMNS)}; - is stdin")
    issue.set_defaults(expiry=expiry(now), answers_csv=True)
    revoke = _command(
        room, "revoke-many", commands.keys_revoke_many, "refuse the keys of a CSV, for ever"
    )
    revoke.add_argument("file", help=f"columns {', '.join(REVOKE_COLUMNS)}; - is stdin")
    revoke.set_defaults(answers_csv=True)


def _pepper(room: Subparsers) -> None:
    rotate = _command(room, "rotate", commands.pepper_rotate, "begin a new pepper; no key changes")
    rotate.add_argument(
        "--deadline",
        type=duration,
        default=PEPPER_DEADLINE_SECONDS,
        metavar="DURATION",
        help="a key that is not used until then is refused from then on (90d)",
    )
    _command(room, "status", commands.pepper_status, "show how many secrets are under which")
    retire = _command(room, "retire", commands.pepper_retire, "end the pepper before")
    retire.add_argument(
        "--force", action="store_true", help="also if keys are left under it: they are refused"
    )


def _users(room: Subparsers) -> None:
    roles = [role.value for role in Role]
    add = _command(room, "add", commands.users_add, "add a web user with a key of their own")
    add.add_argument("user")
    add.add_argument("--tenant", required=True)
    add.add_argument("--role", choices=roles, default=Role.USER.value)
    _password(add)
    _command(room, "list", commands.users_list, "show all users")
    password = _command(
        room, "set-password", commands.users_set_password, "change a password; sessions end"
    )
    password.add_argument("user")
    _password(password)
    role = _command(room, "set-role", commands.users_set_role, "change what a user may do")
    role.add_argument("user")
    role.add_argument("role", choices=roles)
    assign = _command(
        room, "assign-key", commands.users_assign_key, "forward another key, read from stdin"
    )
    assign.add_argument("user")
    for name, run, text in (
        ("disable", commands.users_disable, "let a user log in no more"),
        ("enable", commands.users_enable, "let a user log in again"),
    ):
        _command(room, name, run, text).add_argument("user")


def _password(command: argparse.ArgumentParser) -> None:
    source = command.add_mutually_exclusive_group()
    source.add_argument(
        "--password-stdin", action="store_true", help="read it from stdin, up to the line's end"
    )
    source.add_argument("--prompt", action="store_true", help="ask for it on the terminal")
    command.add_argument(
        "--must-change",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="at the next login (yes for a generated password)",
    )
