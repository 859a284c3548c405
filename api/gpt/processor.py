"""Which instructions the kernels are compiled for, and where their machine code is kept.

Compiling takes some ten seconds, so it is done once for each kind of processor, and the result is
kept beside the source with a hash of all of it. The kinds are broad, so that what was compiled
while an image was built serves wherever the image runs. Where the place cannot be written and has
nothing for this processor, the kernels are compiled at each start.

Imported before anything that numba compiles.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from numba.core import config

HERE = Path(__file__).parent
SOURCES = (
    "attention",
    "buffers",
    "draw",
    "forward",
    "gemm",
    "meeting",
    "processor",
    "rowwise",
    "simd",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of processor: what LLVM calls it, and the features that make one of this kind."""

    name: str
    cpu: str | None = None  # None: exactly this processor
    more: str = ""
    needs: tuple[str, ...] = ()

    @property
    def has_vnni(self) -> bool:
        return "avx512vnni" in self.needs


_AVX2 = ("avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_AVX512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
KINDS = (
    Kind("vnni", "x86-64-v4", "+avx512vnni", (*_AVX2, *_AVX512, "avx512vnni")),
    Kind("avx2", "x86-64-v3", "", _AVX2),
    Kind("host"),
)


def family() -> tuple[Kind, ...]:
    """Return the kinds that a machine of this architecture can be of, the best first."""
    return KINDS[:-1] if platform.machine() in {"x86_64", "AMD64"} else KINDS[-1:]


def kind_here() -> Kind:
    """Return the best kind that this processor is of."""
    features = llvm.get_host_cpu_features()
    known = (k for k in family() if all(features.get(need, False) for need in k.needs))
    return next(known, KINDS[-1])


kind = kind_here()


def use(kind_name: str) -> None:
    """Compile for this kind from now on: for another machine, or to hold kinds to one another."""
    global kind  # noqa: PLW0603 - numba's configuration is of the process too
    kind = next(k for k in KINDS if k.name == kind_name)
    for name, value in {
        "CPU_NAME": kind.cpu,
        "CPU_FEATURES": None if kind.cpu is None else kind.more,
        "CACHE_LOCATOR_CLASSES": f"{__name__}.{KernelCache.__name__}",
    }.items():
        setattr(config, name, value)  # numba fills the module in as it is imported


class KernelCache:
    """Where numba keeps machine code: a cache locator, as its documentation calls it."""

    def __init__(self, line: int) -> None:
        self._line, self._path = line, _place()

    @classmethod
    def from_function(cls, function: Callable[..., Any], _file: str) -> KernelCache:
        return cls(function.__code__.co_firstlineno)

    def ensure_cache_path(self) -> None:
        self._path.mkdir(parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        return str(self._path)

    def get_source_stamp(self) -> str:
        digest = hashlib.sha256()
        for source in SOURCES:
            digest.update((HERE / f"{source}.py").read_bytes())
        return digest.hexdigest()

    def get_disambiguator(self) -> str:
        return str(self._line)


def _place() -> Path:
    place = HERE / "__pycache__" / f"kernels-{kind.name}"
    with contextlib.suppress(OSError):  # the next question has the answer
        place.mkdir(parents=True, exist_ok=True)
    if os.access(place, os.W_OK) or any(place.glob("*.nbc")):
        return place
    return _own_place()


@functools.cache
def _own_place() -> Path:
    """Return a folder of this process, gone with it; no other user could have filled it before."""
    place = Path(tempfile.mkdtemp(prefix="quillgate-kernels-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


if vars(config)["DISABLE_JIT"]:  # numba fills the module in as it is imported
    raise ValueError(
        "NUMBA_DISABLE_JIT is set, and nothing can be generated without compiled code: unset it"
    )
use(kind.name)
