"""What each command of `python -m auth` does: from parsed arguments to an admin operation.

A command returns what to print; a refusal is AdminRefusedError and ends with exit status 1.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auth.admin import Admin, KeySettings
from auth.admin_checks import checked_scopes
from auth.csv_rows import orders, revocations
from auth.errors import AdminRefusedError
from auth.rights import Identity

Command = Callable[[Admin, argparse.Namespace], Any]


def tenants_add(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.tenants.add(args.tenant, args.plan)


def tenants_list(admin: Admin, _: argparse.Namespace) -> Any:
    return admin.tenants.list()


def tenants_show(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.tenants.show(args.tenant) | {"keys": admin.keys.list(tenant=args.tenant)}


def tenants_set_plan(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.tenants.set_plan(args.tenant, args.plan)


def tenants_disable(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.tenants.disable(args.tenant)


def tenants_enable(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.tenants.enable(args.tenant)


def keys_issue(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.keys.issue(
        args.tenant,
        args.name,
        args.scopes,
        plan=args.plan,
        expires_at=args.expires,
        allowed_cidrs=args.cidrs,
    )


def keys_issue_many(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.bulk.issue(orders(_text_of(args.file), args.expiry))


def keys_revoke_many(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.bulk.revoke(revocations(_text_of(args.file)))


def keys_list(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.keys.list(tenant=args.tenant, unused_days=args.unused_days)


def keys_show(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.keys.show(args.key_id)


def keys_set(admin: Admin, args: argparse.Namespace) -> Any:
    settings = KeySettings(
        name=args.name,
        plan=None if args.plan == "tenant" else args.plan,
        tenants_plan=args.plan == "tenant",
        scopes=None if args.scopes is None else checked_scopes(args.scopes),
        expires_at=None if args.expires == "never" else args.expires,
        never_expires=args.expires == "never",
        allowed_cidrs=None if args.cidrs is None else tuple(args.cidrs),
    )
    if settings == KeySettings():
        raise AdminRefusedError("nothing to set: name what to change")
    return admin.keys.set(args.key_id, settings)


def keys_rotate(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.keys.rotate(
        args.key_id,
        deadline_seconds=args.deadline,
        grace_seconds=args.grace,
        force=args.force,
    )


def keys_cancel(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.keys.cancel_rotation(args.key_id)


def keys_revoke(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.keys.revoke(args.key_id, args.reason)


def users_add(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.users.add(
        args.user,
        args.tenant,
        [args.role],
        password=_given_password(args),
        must_change=args.must_change,
    )


def users_list(admin: Admin, _: argparse.Namespace) -> Any:
    return admin.users.list()


def users_set_password(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.users.set_password(args.user, _given_password(args), must_change=args.must_change)


def users_set_role(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.users.set_roles(args.user, [args.role])


def users_assign_key(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.users.assign_key(args.user, sys.stdin.readline().strip())


def users_disable(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.users.disable(args.user)


def users_enable(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.users.enable(args.user)


def pepper_rotate(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.peppers.rotate(deadline_seconds=args.deadline)


def pepper_status(admin: Admin, _: argparse.Namespace) -> Any:
    return admin.peppers.status()


def pepper_retire(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.peppers.retire(force=args.force)


def audit_list(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.audit_records(args.limit)


def audit_verify(admin: Admin, _: argparse.Namespace) -> Any:
    return admin.verify_audit()


def failures(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.failures(args.hours)


def secrets_check(admin: Admin, args: argparse.Namespace) -> Any:
    checked = admin.check_secrets(Identity(args.identity), web_users=args.web_users)
    lacking = [f"{one['secret']}: {right}" for one in checked for right in one["missing"]]
    if lacking:
        raise AdminRefusedError(
            "this identity lacks (`secrets grants` prints how to give it):\n  "
            + "\n  ".join(lacking)
        )
    return checked


def secrets_grants(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.grants(web_users=args.web_users)


def _text_of(name: str) -> str:
    if name == "-":
        return sys.stdin.read()
    try:
        return Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise AdminRefusedError(
            f"{name} is not UTF-8: save it as CSV UTF-8, or `iconv -f latin1 -t utf-8` makes it so"
        ) from exc


def _given_password(args: argparse.Namespace) -> str | None:
    """Return the password that was typed or piped in; None: generate one."""
    if args.password_stdin:
        return sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    if not args.prompt:
        return None
    try:
        password = getpass.getpass("Password: ")
        again = getpass.getpass("Again: ")
    except EOFError as exc:
        raise AdminRefusedError("no password was typed; pipe one with --password-stdin") from exc
    if again != password:
        raise AdminRefusedError("the two passwords differ")
    return password
