"""Which importer reads which files, and with what options; one that it would ignore is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from api.gpt.importers import huggingface, lecture, nanogpt
from api.gpt.importers.files import ImportRefusedError
from api.gpt.importers.imported import Imported

_TAKES = {
    "nanogpt": ("tokenizer", "activation"),
    "lecture": ("chars", "activation", "scaled_by_width"),
    "huggingface": ("tokenizer",),
}
_OPTIONS = ("tokenizer", "chars", "activation", "scaled_by_width")


def read(kind: str, paths: Sequence[Path], options: Mapping[str, Any]) -> Imported:
    """Read a model of a kind. Options that are not given are None or False."""
    given = {name: options[name] for name in _OPTIONS if options[name] not in (None, False)}
    for name in given:
        if name not in _TAKES[kind]:
            raise ImportRefusedError(f"--from {kind} has no use for --{name.replace('_', '-')}")
    path, *others = paths
    if len(others) > (kind == "nanogpt"):
        raise ImportRefusedError(f"--from {kind} does not take {others[-1]} as well")
    if kind == "nanogpt":
        given.setdefault("tokenizer", None)
        return nanogpt.read(path, meta=others[0] if others else None, **given)
    if kind == "huggingface":
        return huggingface.read(path, **given)
    if "chars" not in given:
        raise ImportRefusedError(
            "--from lecture needs --chars: the text it was trained on, or its characters in order"
        )
    return lecture.read(path, **given)
