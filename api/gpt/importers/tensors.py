"""The tensors of a stranger's file: read without running anything of it, and no larger than it is.

A PyTorch checkpoint is a zip archive of a pickle and raw numbers. Before torch reads it, with
`weights_only=True`, the archive must hold its entries as they are (a compressed one could be a
bomb) and the pickle must name nothing but tensors, dictionaries and plain values. Whatever is wrong
raises `ImportRefusedError` with one line.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from api.gpt.importers.files import ImportRefusedError
from api.gpt.importers.plain_pickle import INTEGERS, PUTS, TEXTS
from api.gpt.shown import shown

PICKLE_LIMIT = 64 * 2**20  # bytes; that of a whole nanoGPT checkpoint is well under one MiB
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MOST_NUMBERS = 2**15  # that differ: dictionaries of chosen ones take quadratic time
SHOWN = 30  # lines about tensors that do not fit

_NAMES = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch Size|torch device"
    r"|torch\.storage UntypedStorage|torch (\w+Storage|b?float\w+|u?int\d+|bool)"
)
_LOOK_UPS = {"GLOBAL", "INST"}  # of a pickle of protocol 2, which torch.save writes
_BEYOND = {"STACK_GLOBAL", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}
_WRAPPERS = ("_orig_mod.", "module.")  # of torch.compile and of data-parallel training


@dataclass(frozen=True, slots=True)
class Source:
    """Where one of our tensors comes from: tensors of the file, stacked along their rows."""

    names: tuple[str, ...]
    transposed: bool = False  # as the file has it

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that each of `names` must have."""
        rows = (ours[0] // len(self.names), *ours[1:])
        return rows[::-1] if self.transposed else rows

    def tensor(self, found: Mapping[str, Tensor]) -> Tensor:
        parts = [found[name] for name in self.names]
        stacked = torch.cat(parts) if len(parts) > 1 else parts[0]
        return stacked.t() if self.transposed else stacked


def read_torch_file(path: Path) -> Any:
    """Return what `torch.save` wrote: containers, plain values and tensors."""
    _check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # whatever a malformed file makes torch raise
        line = shown(" ".join(str(exc).split())) or type(exc).__name__
        raise ImportRefusedError(f"{path}: not a checkpoint that torch can read: {line}") from exc


def read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # no mapping
    except OSError as exc:
        raise ImportRefusedError(f"{path}: {exc.strerror or exc}") from exc
    except (SafetensorError, ValueError, RuntimeError) as exc:
        raise ImportRefusedError(f"{path}: {shown(exc)}") from exc


def state_of(document: Any, path: Path) -> dict[str, Tensor]:
    """Return a state dict without the prefixes of wrappers. Raise ImportRefusedError."""
    if not isinstance(document, dict) or not document:
        raise ImportRefusedError(f"{path}: holds no state dict; save model.state_dict()")
    state = {}
    for key, value in document.items():
        if not isinstance(key, str):
            raise ImportRefusedError(
                f"{path}: the key {shown(key)} is no name of a tensor; save model.state_dict()"
            )
        if not isinstance(value, Tensor):
            raise ImportRefusedError(
                f"{path}: {shown(repr(key))} is a {type(value).__name__}, not a tensor; "
                "save model.state_dict() by itself"
            )
        if fault := _fault(value):
            raise ImportRefusedError(f"{path}: {shown(key)}: {fault}")
        name = key
        while name.startswith(_WRAPPERS):
            name = name.partition(".")[2]
        state[name] = value
    if len(state) != len(document):
        raise ImportRefusedError(f"{path}: holds two models, one of them wrapped")
    return state


def fit(
    shapes: Mapping[str, tuple[int, ...]],
    sources: Mapping[str, Source],
    found: Mapping[str, Tensor],
    path: Path,
) -> dict[str, Tensor]:
    """Return our tensors, float32. Raise ImportRefusedError with a line for each that is wrong."""
    wanted = {
        name: source.shape(shapes[ours])
        for ours, source in sources.items()
        for name in source.names
    }
    problems = []
    for name in sorted({*wanted, *found}):
        expected = wanted.get(name, "no such tensor")
        is_there = tuple(found[name].shape) if name in found else "none"
        if expected != is_there:
            problems.append(f"{shown(name)}: expected {expected}, found {is_there}")
        elif found[name].dtype not in DTYPES:
            kind = found[name].dtype
            problems.append(f"{shown(name)}: expected floating-point numbers, found {kind}")
    if problems:
        raise ImportRefusedError(f"{path}: these tensors do not fit:\n{_lines(problems)}")
    size, most = sum(found[name].nbytes for name in wanted), 2 * path.stat().st_size
    if size > most:  # tied weights are stored once and counted twice, and no more than that
        raise ImportRefusedError(f"{path}: its tensors claim {size} bytes, more than it can hold")
    state = {ours: source.tensor(found).float() for ours, source in sources.items()}
    infinite = [f"{name}: is not finite" for name, t in state.items() if not t.isfinite().all()]
    if infinite:
        raise ImportRefusedError(f"{path}: these tensors cannot be served:\n{_lines(infinite)}")
    return {name: tensor.contiguous() for name, tensor in state.items()}


def stored_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """Return the type that holds all of them exactly and no more than they need."""
    kinds = {tensor.dtype for tensor in tensors}
    return kinds.pop() if kinds in ({torch.bfloat16}, {torch.float16}) else torch.float32


def layers(names: Iterable[str], prefix: str) -> int:
    """Return how many blocks there are: one more than the highest number after `prefix`."""
    pattern = re.compile(rf"{re.escape(prefix)}\.([0-9]{{1,6}})\.")
    numbers = [int(match[1]) for name in names if (match := pattern.match(name))]
    return max(numbers, default=-1) + 1


def _fault(tensor: Tensor) -> str | None:
    """Say what makes a tensor more than an array of the numbers that are stored for it."""
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return "not a plain dense tensor"
    if tensor.untyped_storage().nbytes() < tensor.nbytes:
        return f"claims {tensor.nbytes} bytes, more than are stored"
    return None


def _check_archive(path: Path) -> None:
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ImportRefusedError(f"{path}: refused: its entries are compressed")
            if sum(entry.file_size for entry in entries) > size:
                raise ImportRefusedError(f"{path}: refused: its entries claim more than its size")
            pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
            if len(pickles) != 1 or pickles[0].file_size > PICKLE_LIMIT:
                raise ImportRefusedError(f"{path}: not a checkpoint that torch.save wrote")
            data = archive.read(pickles[0])
    except OSError as exc:
        raise ImportRefusedError(f"{path}: {exc.strerror or exc}") from exc
    except (zipfile.BadZipFile, NotImplementedError, ValueError, RuntimeError, EOFError) as exc:
        raise ImportRefusedError(
            f"{path}: not a checkpoint that torch.save wrote (a zip archive; torch 1.6 or newer)"
        ) from exc
    _check_pickle(path, data)


def _check_pickle(path: Path, data: bytes) -> None:
    entry: str | None = None  # the last text: of a dictionary, the key of what follows
    remembered, numbers = 0, set()
    try:
        for operation, argument, _ in pickletools.genops(data):
            name = operation.name
            looked_up = name in _LOOK_UPS and not _NAMES.fullmatch(str(argument))
            if looked_up or name in _BEYOND:
                what = shown(str(argument).replace(" ", ".") if looked_up else name, most=100)
                raise ImportRefusedError(
                    f"{path}: refused: it asks for {what}{_at(entry)}; a checkpoint may hold "
                    f"tensors, dictionaries, text and numbers: {_advice(entry)}"
                )
            if name in TEXTS:
                entry = argument
            elif isinstance(argument, int) and name in INTEGERS:
                numbers.add(hex(argument))  # as text: integers can be chosen so that they collide
                if not -(2**63) <= argument < 2**64 or len(numbers) > MOST_NUMBERS:
                    raise ImportRefusedError(f"{path}: refused: numbers beyond reason in it")
            elif isinstance(argument, int) and name in PUTS:
                if not 0 <= argument <= remembered:
                    raise ImportRefusedError(f"{path}: its pickle is damaged: a gap in its memo")
                remembered = max(remembered, argument + 1)
    except ValueError as exc:
        raise ImportRefusedError(f"{path}: its pickle is damaged: {shown(exc)}") from exc


def _at(entry: str | None) -> str:
    return "" if entry is None else f" after {shown(repr(entry), most=60)}"


def _advice(entry: str | None) -> str:
    if entry is None:
        return "save model.state_dict(), not the model"
    return "save it without that entry, or as plain text or number, or model.state_dict() alone"


def _lines(problems: list[str]) -> str:
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return "\n".join(f"  {line}" for line in [*problems[:SHOWN], *more])
