"""Files from strangers: read whole and within a size, or refused with one line that names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEXT_LIMIT = 64 * 2**20  # bytes; GPT-2's vocabulary and merges are 3 MiB


class ImportRefusedError(Exception):
    """The files cannot be imported; the message says which one, why, and what to give instead."""


def read_bytes(path: Path, limit: int = TEXT_LIMIT) -> bytes:
    """Read a file of at most `limit` bytes. Raise ImportRefusedError."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as exc:
        raise ImportRefusedError(f"{path}: {exc.strerror or exc}") from exc
    if len(data) > limit:
        raise ImportRefusedError(f"{path}: larger than {limit // 2**20} MiB")
    return data


def read_text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ImportRefusedError(f"{path}: not UTF-8 at byte {exc.start}") from exc


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raise ImportRefusedError."""
    try:
        document = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as exc:
        raise ImportRefusedError(f"{path}: not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise ImportRefusedError(f"{path}: not a JSON object")
    return document
