"""What the machine is, and the most that it does: memory read, arithmetic."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

PACKAGES = ("torch", "numba", "transformers", "ctranslate2", "llama-cpp-python")


def ask_for_priority() -> None:
    """Ask for more than an equal share beside other work; only root on Linux is given it."""
    with contextlib.suppress(OSError):
        os.setsid()
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("-15", encoding="ascii")


def described() -> dict[str, Any]:
    cpu = platform.processor()
    flags: set[str] = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = (part.strip() for part in line.partition(":"))
            cpu = value if key == "model name" else cpu
            flags = set(value.split()) if key == "flags" else flags
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "processor": cpu,
        "cores": os.cpu_count(),
        "instructions": [flag for flag in known if flag in flags],
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": versions,
        "load_average": os.getloadavg(),
    }


def limits() -> dict[str, float]:
    """Measure what bounds a step from above; on two threads unless said otherwise."""
    return {
        "read_10_mb_again_gb_s": _read(10 << 20),
        "read_10_mb_again_1_thread_gb_s": _read(10 << 20, threads=1),
        "read_40_mb_again_gb_s": _read(40 << 20),
        "read_400_mb_gb_s": _read(400 << 20, times=1),
        "int8_gops_s": _products(),
        "fp32_gflops_s": _gemm(),
    }


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


@njit(nogil=True)
def _add_up(words, times):
    """Read every word, in eight sums that do not wait for one another."""
    total = 0
    for _ in range(times):
        for i in range(0, len(words), 8):
            total += (
                (words[i] ^ words[i + 1]) + (words[i + 2] ^ words[i + 3])
                + (words[i + 4] ^ words[i + 5]) + (words[i + 6] ^ words[i + 7])
            )  # fmt: skip
    return total


def _read(size: int, threads: int = 2, times: int = 20) -> float:
    words = np.ones(size // 8, np.int64)
    half = len(words) // 2
    parts = [(words[:half], times), (words[half:], times)] if threads == 2 else [(words, times)]
    for part in parts:
        _add_up(part[0], 1)
    return size * times / _on_threads(threads, _add_up, parts) / 1e9


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
