"""`tenants set-caps` and `keys set-limits`: limits on the command line, as NAME=VALUE."""

from __future__ import annotations

import argparse
import re
from typing import Any

from auth.admin import Admin
from auth.plans import CAPS, LIMITS


def limit(text: str) -> tuple[str, int | None]:
    """Return the name and value of `chars_per_day=5000`; `none` takes a limit away."""
    match = re.fullmatch(r"([a-z_]{1,32})=([0-9][0-9_]{0,15}|none)", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a limit like chars_per_day=5000 or chars_per_day=none"
        )
    return match[1], None if match[2] == "none" else int(match[2].replace("_", ""))


def add_set_caps(command: argparse.ArgumentParser) -> None:
    command.add_argument("tenant")
    known = ", ".join(CAPS)
    command.add_argument("limits", nargs="+", type=limit, metavar="NAME=VALUE", help=f"of {known}")


def add_set_limits(command: argparse.ArgumentParser) -> None:
    command.add_argument("key_id")
    known = ", ".join(LIMITS)
    command.add_argument("limits", nargs="+", type=limit, metavar="NAME=VALUE", help=f"of {known}")


def set_caps(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.limits.set_caps(args.tenant, dict(args.limits))


def set_limits(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.limits.set_key_limits(args.key_id, dict(args.limits))
