"""`usage export` and `usage rebuild` on the command line."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from auth.admin import Admin
from auth.csv_rows import as_name

COLUMNS = ("day", "tenant", "key_id", "name", "chars", "requests", "refused")


def add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("--csv", action="store_true", help="print CSV, one line a key and day")
    command.add_argument("--tenant", help="only this tenant's")
    command.add_argument("--from", dest="first", type=_day, default=date.min, metavar="DAY")
    command.add_argument("--to", dest="last", type=_day, default=date.max, metavar="DAY")


def add_rebuild(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--from-log",
        required=True,
        nargs="+",
        metavar="FILE",
        help="the service's JSON log, rotated files too; - is stdin",
    )


def export(admin: Admin, args: argparse.Namespace) -> Any:
    rows = admin.usage.export(args.tenant, args.first, args.last)
    return _as_csv(rows) if args.csv and not args.json else rows


def rebuild(admin: Admin, args: argparse.Namespace) -> Any:
    return admin.usage.rebuild(_lines(args.from_log))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day like 2026-11-23") from None


def _lines(files: Iterable[str]) -> Iterable[str]:
    for name in files:
        if name == "-":
            yield from sys.stdin
        else:
            with open(name, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - streamed
                yield from file


def _as_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "name": as_name(row["name"])})
    return out.getvalue().removesuffix("\n")
