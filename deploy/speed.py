"""README's tables of speed, from what `make bench` wrote. Pure but for reading the two files."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "bench" / "results"
AT_A_TIME = ("1", "8", "32")
# Each row of the table, and what its engines' names begin with in the results.
ENGINES = (
    ("Quillgate (int8)", "quillgate int8"),
    ("the best of llama.cpp f32, bf16, q8_0", "llama.cpp"),
    ("the better of CTranslate2 float32, int8", "CTranslate2"),
    ("transformers `generate`", "transformers"),
)


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def engines(results: Mapping[str, Any]) -> list[list[str]]:
    """Return characters per second by engine; of several kinds the best at each size."""
    rows = []
    for shown, begins in ENGINES:
        kinds = [kind for name, kind in results["engines"].items() if name.startswith(begins)]
        best = (max(kind[size]["chars_per_second"] for kind in kinds) for size in AT_A_TIME)
        rows.append([shown, *(f"{rate:,}" for rate in best)])
    return [*rows, ["measured", _build(results), *[""] * (len(AT_A_TIME) - 1)]]


def _build(results: Mapping[str, Any]) -> str:
    """Return the day and the commit of a measurement; runs of before these were kept say so."""
    build = results.get("build")
    return f"{build['date'][:10]}, commit {build['commit']}" if build else "commit not kept"


def _median(value: float | Mapping[str, float]) -> float:
    return value["median"] if isinstance(value, Mapping) else value


def service(results: Mapping[str, Any]) -> list[list[str]]:
    """Return what the whole service does, beside the engine alone in the same run."""
    http, start = results["http"], results["start"]
    served, alone = (
        round(statistics.median(http[f"{what}_chars_per_second"])) for what in ("http", "raw")
    )
    ready, torch = (_median(start[f"{what}_seconds"]) for what in ("ready", "import_torch"))
    return [
        ["characters/s to 32 clients that stream through keys, limits and HTTP", f"{served:,}"],
        ["... the engine alone, called in its own process, as many threads", f"{alone:,}"],
        ["from the start of the process to `/ready`", f"{ready} s"],
        ["... `import torch` alone, which int8 serving does not need", f"{torch} s"],
        ["resident after 10,000 requests", f"{results['memory']['after_all_mb']} MB"],
        ["measured", _build(results)],
    ]
