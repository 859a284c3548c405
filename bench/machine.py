"""What the machine is, and the most that it does: memory read, arithmetic."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import subprocess
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types

MATRICES = 10_642_944  # weights that every token is multiplied by
# Bytes that a pass reads for each weight; llama.cpp's q8_0 adds a scale of 2 bytes to 32 weights.
BYTES = {"int8": 1, "q8_0": 34 / 32, "bf16": 2, "float32": 4}
TRIES = 3
PACKAGES = ("torch", "numba", "transformers", "ctranslate2", "llama-cpp-python")


def ask_for_priority() -> None:
    """Ask for more than an equal share beside other work; only root on Linux is given it."""
    with contextlib.suppress(OSError):
        os.setsid()
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("-15", encoding="ascii")


def _flags() -> set[str]:
    return set(_cpuinfo().get("flags", "").split())


def _cpuinfo() -> dict[str, str]:
    """What Linux tells of its first processor; nothing elsewhere."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = (part.strip() for part in line.partition(":"))
            found.setdefault(key, value)
    return found


def described() -> dict[str, Any]:
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "processor": _cpuinfo().get("model name", platform.processor()),
        "cores": os.cpu_count(),
        "instructions": [flag for flag in known if flag in _flags()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": versions,
    }


def begun(rounds: int) -> dict[str, Any]:
    """Return of which build a measurement is, and beside which load it begins."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results")
    return {
        "commit": (_git("rev-parse", "--short=10", "HEAD") or "unknown")
        + (" with changes" if changed else ""),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "rounds": rounds,
        "load_at_start": [round(one, 1) for one in os.getloadavg()],
    }


def ended(build: dict[str, Any]) -> dict[str, Any]:
    return build | {"load_at_end": [round(one, 1) for one in os.getloadavg()]}


def _git(*words: str) -> str:
    with contextlib.suppress(OSError):
        command = ["git", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip()
    return ""


def limits() -> dict[str, float]:
    """Measure what bounds a step from above, and beside it what good code does of it.

    Reading: the weights of each width again and again, and 512 MB that no cache holds; the best of
    one and two threads. Arithmetic: the clock times what the widest instruction multiplies.
    """
    clock = _clock()
    cores = min(2, os.cpu_count() or 1)
    found = {f"read_{width}_gb_s": _read(round(MATRICES * size)) for width, size in BYTES.items()}
    found["read_512_mb_gb_s"] = _read(512 << 20)
    found["clock_ghz"] = clock
    for width, operations in per_cycle(_flags()).items():
        found[f"peak_{width}_gops_s"] = cores * clock * operations
    found["engine_products_int8_gops_s"] = _products()
    found["torch_matmul_float32_gops_s"] = _gemm()
    return found


def per_cycle(flags: set[str]) -> dict[str, int]:
    """Return the most operations of a core in a cycle: two instructions, 2 a product."""
    if "avx512_vnni" in flags:
        return {"int8": 2 * 64 * 2, "float32": 2 * 16 * 2}
    if "avx2" in flags:
        return {"int8": 2 * 32 * 2, "float32": 2 * 8 * 2}
    return {}


def _on_threads(threads: int, work: Any, parts: list[Any]) -> float:
    """Return the seconds that it takes to do `work` on every part at once."""
    started = [threading.Thread(target=work, args=part) for part in parts[1:threads]]
    begin = time.perf_counter()
    for thread in started:
        thread.start()
    work(*parts[0])
    for thread in started:
        thread.join()
    return time.perf_counter() - begin


@njit([types.int64(types.int64[::1], types.int64)], nogil=True)
def _read_all(words, times):
    """Read every word in order; the compiler makes wide loads of it, one array after another."""
    total = 0
    for turn in range(times):
        for i in range(len(words)):
            total ^= words[i] + turn
    return total


def _read(size: int) -> float:
    words = np.ones(size // 8, np.int64)
    half = len(words) // 2
    times = max(1, (64 << 20) // size)
    one, two = [(words, times)], [(words[:half], times), (words[half:], times)]
    seconds = min(
        _on_threads(len(parts), _read_all, parts) for _ in range(TRIES) for parts in (one, two)
    )
    return size * times / seconds / 1e9


@njit([types.int64(*[types.int64] * 4)], nogil=True)
def _chain(times, x, factor, term):
    """A multiplication (3 cycles) and a sum (1) that wait for one another."""
    for _ in range(times):
        x = x * factor + term
    return x


def _clock() -> float:
    """Return the clock in GHz, the fastest of many short looks: other work only slows them."""
    times, best = 500_000, math.inf
    for _ in range(40):
        begin = time.perf_counter()
        _chain(times, 1, 3, 5)
        best = min(best, time.perf_counter() - begin)
    return 4 * times / best / 1e9


def _products() -> float:
    """The engine's own products, 32 rows with a matrix that stays near: 2 operations a product."""
    from api.gpt.buffers import Weights
    from api.gpt.gemm import pack, product

    n, k, rows, times = 384, 384, 32, 400

    def one() -> tuple[Any, ...]:
        weight = np.ones((n, k), np.int8)
        zeros = np.zeros(n, np.float32)
        at = np.zeros(1, np.int64)
        weights = Weights(zeros, zeros, zeros, zeros, _aligned(pack(weight)), at, zeros, zeros, at)
        x, y = np.ones(rows * k, np.int8), np.zeros(rows * n, np.float32)
        scales, starts = np.ones(rows, np.float32), np.zeros(rows, np.int32)
        return rows, x, scales, starts, k, weights, 0, 0, n // 16, y, n

    def work(*arguments: Any) -> None:
        for _ in range(times):
            product(*arguments)

    parts = [one(), one()]
    product(*parts[0])
    return 2 * 2 * rows * n * k * times / _on_threads(2, work, parts) / 1e9


def _aligned(values: np.ndarray) -> np.ndarray:
    from api.gpt.packed import aligned

    copy = aligned(len(values), np.uint8)
    copy[:] = values
    return copy


def _gemm() -> float:
    import torch

    torch.set_num_threads(2)
    a = torch.ones(1024, 1024)
    a @ a
    begin = time.perf_counter()
    for _ in range(4):
        a @ a
    return 4 * 2 * 1024**3 / (time.perf_counter() - begin) / 1e9
