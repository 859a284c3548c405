"""What engine.py measured: tables in Markdown, numbers in JSON, a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.machine import BYTES, MATRICES
from bench.report import build, described, pyplot

OURS = "quillgate int8"
PEERS = (  # as shown, and how their names begin
    ("the best llama.cpp", "llama.cpp"),
    ("the best CTranslate2", "CTranslate2"),
    ("transformers", "transformers"),
    ("nanoGPT", "nanoGPT"),
)


def write(result: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "engine.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (out / "engine.md").write_text(tables(result), encoding="utf-8")
    plot(result, out / "engine.png")


def tables(result: dict[str, Any]) -> str:
    measured = result["engines"]
    lines = [
        "# The engine and its peers",
        "",
        build(result["build"]),
        "",
        "Characters per second, all sequences together: the same weights, sampled at temperature",
        "0.8. Median of interleaved rounds (least to most), with the better of one and two threads",
        "(t). Written by `make bench`.",
        "",
        *_rates(measured, result["first_char_ms"]),
        "",
        "nanoGPT computes all of the text anew for each character: fewer characters favour it.",
        "",
        *_chosen(measured),
        "## Against the peers",
        "",
        *_ratios(measured),
        "",
        "Goals: against the best llama.cpp 1.0x at 1, 1.3x at 8, 1.5x at 32 at a time; against",
        "transformers 5x everywhere.",
        "",
        "## What the machine allows",
        "",
        *_limits(result["limits"]),
        "",
        "A token needs one pass over its engine's weights, however many rows share it, and 21.3",
        "million operations for each row. Which share of the smaller limit of **its own width**",
        "each median reaches; attention, norms and draws are not counted in the limit:",
        "",
        *_shares(measured, result["limits"]),
        "",
        "## The machine",
        "",
        described(result["machine"]) + f" {result['minutes']} minutes.",
        "",
    ]
    return "\n".join(lines)


def _rates(measured: dict[str, Any], first: dict[str, float]) -> list[str]:
    rows = list(next(iter(measured.values())))
    head = ["engine", "characters, rounds", *(f"{r} at a time" for r in rows), "first character"]
    lines = _head(head)
    for name, by_rows in measured.items():
        any_of = next(iter(by_rows.values()))
        cells = [
            f"{v['chars_per_second']:,} ({v['least']:,} to {v['most']:,}; {v['threads']}t)"
            for v in by_rows.values()
        ]
        lines.append(_line(name, f"{any_of['chars']}, {any_of['runs']}", *cells,
                           f"{first[name]} ms"))  # fmt: skip
    return lines


def _chosen(measured: dict[str, Any]) -> list[str]:
    """What was tried of each engine and found fastest before the rounds, where it has a choice."""
    lines = []
    for name, by_rows in measured.items():
        ways = [f"{rows}: {v['way']}" for rows, v in by_rows.items() if v["way"]]
        if ways:
            lines.append(f"- {name}: {'; '.join(ways)}")
    if not lines:
        return []
    return ["Found fastest on trial runs, at each number of sequences:", "", *lines, ""]


def _ratios(measured: dict[str, Any]) -> list[str]:
    if OURS not in measured:
        return ["Quillgate was not among the engines measured."]
    lines = _head(["against", *measured[OURS]])
    for title, prefix in PEERS:
        kinds = {name: one for name, one in measured.items() if name.startswith(prefix)}
        if not kinds:
            continue
        cells = []
        for rows, ours in measured[OURS].items():
            name = max(kinds, key=lambda kind: kinds[kind][rows]["chars_per_second"])
            ratio = ours["chars_per_second"] / kinds[name][rows]["chars_per_second"]
            width = f" ({name.removeprefix(prefix).strip()})" if len(kinds) > 1 else ""
            cells.append(f"{ratio:.2f}x{width}")
        lines.append(_line(title, *cells))
    return lines


def _limits(limits: dict[str, float]) -> list[str]:
    """What was measured of the machine, in order of what it bounds."""
    lines = [
        f"- reading {MATRICES * size / 1e6:.1f} MB again and again, the weights in {width}: "
        f"{limits[f'read_{width}_gb_s']:,.1f} GB/s"
        for width, size in BYTES.items()
    ]
    lines.append(f"- reading 512 MB: {limits['read_512_mb_gb_s']:,.1f} GB/s")
    lines += [
        f"- {width} arithmetic, computed: two of the widest instructions a cycle at "
        f"{limits['clock_ghz']:.2f} GHz, on two cores: "
        f"{limits[f'peak_{width}_gops_s']:,.0f} billion operations/s"
        for width in ("int8", "float32")
        if f"peak_{width}_gops_s" in limits
    ]
    ours, torch = limits["engine_products_int8_gops_s"], limits["torch_matmul_float32_gops_s"]
    lines += [
        f"- not limits, for comparison: this engine's own int8 products on near data {ours:,.0f},",
        f"  torch's float32 matrix product {torch:,.0f} billion operations/s",
        "",
        "Each is the most that any round saw, reading with one thread or two.",
    ]
    return lines


def width_of(engine: str) -> str:
    """Return in which width an engine reads its weights; by default as torch does."""
    return next((width for width in BYTES if engine.endswith(width)), "float32")


def limit(engine: str, rows: int, limits: dict[str, float]) -> float:
    """Return the characters per second that the machine allows at most."""
    width = width_of(engine)
    passes = limits[f"read_{width}_gb_s"] * 1e9 / (MATRICES * BYTES[width]) * rows
    kind = "int8" if width in ("int8", "q8_0") else "float32"
    operations = limits.get(f"peak_{kind}_gops_s")
    return min(passes, operations * 1e9 / (2 * MATRICES)) if operations else passes


def _shares(measured: dict[str, Any], limits: dict[str, float]) -> list[str]:
    lines = _head(["engine", "width", *next(iter(measured.values()))])
    for name, by_rows in measured.items():
        cells = [
            f"{v['chars_per_second'] / limit(name, int(rows), limits):.0%}"
            for rows, v in by_rows.items()
        ]
        lines.append(_line(name, width_of(name), *cells))
    return lines


def _head(cells: list[str]) -> list[str]:
    return [_line(*cells), "|---" * len(cells) + "|"]


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def plot(result: dict[str, Any], path: Path) -> None:
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(9, 5), dpi=120)
    for name, by_rows in result["engines"].items():
        values = list(by_rows.values())
        middle = [v["chars_per_second"] for v in values]
        spread = [
            [m - v["least"] for m, v in zip(middle, values, strict=True)],
            [v["most"] - m for m, v in zip(middle, values, strict=True)],
        ]
        style = {"linewidth": 2.5, "color": "black"} if name == OURS else {"linewidth": 1.2}
        axes.errorbar([int(r) for r in by_rows], middle, spread, marker="o", label=name, **style)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks([int(r) for r in by_rows], list(by_rows))
    axes.set_xlabel("sequences at a time")
    axes.set_ylabel("characters per second, all together")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
