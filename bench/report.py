"""Tables in Markdown, numbers in JSON, plots as PNG: `bench/results/`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

OURS = "quillgate int8"
MATRICES = 10_642_944  # int8 weights that every token is multiplied by, one byte each
WEIGHTS_MB = 20.5  # model.safetensors


def engines(result: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "engine.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (out / "engine.md").write_text(_engine_tables(result), encoding="utf-8")
    _plot(result, out / "engine.png")


def _engine_tables(result: dict[str, Any]) -> str:
    measured, limits = result["engines"], result["limits"]
    rows = list(next(iter(measured.values())))
    lines = [
        "# The engine and its peers",
        "",
        "Characters per second, all sequences together: sequences of 200 characters from the same",
        "weights, sampled at temperature 0.8. Median of interleaved rounds (least to most), with",
        "the better of one and two threads (t). Written by `make bench`.",
        "",
        "| engine | " + " | ".join(f"{r} at a time" for r in rows) + " | first character |",
        "|---|" + "---|" * (len(rows) + 1),
    ]
    for name, by_rows in measured.items():
        cells = [
            f"{v['chars_per_second']:,} ({v['least']:,} to {v['most']:,}; {v['threads']}t)"
            for v in by_rows.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {result['first_char_ms'][name]} ms |")
    lines += ["", "## Against the peers", "", "| | " + " | ".join(rows) + " |"]
    lines.append("|---|" + "---|" * len(rows))
    for title, prefix in (
        ("the best llama.cpp", "llama.cpp"),
        ("the best CTranslate2", "CTranslate2"),
        ("transformers", "transformers"),
        ("nanoGPT", "nanoGPT"),
    ):
        peers = [v for name, v in measured.items() if name.startswith(prefix)]
        if peers and OURS in measured:
            best = {r: max(peer[r]["chars_per_second"] for peer in peers) for r in rows}
            cells = [f"{measured[OURS][r]['chars_per_second'] / best[r]:.2f}x" for r in rows]
            lines.append(f"| against {title} | {' | '.join(cells)} |")
    lines += [
        "",
        "Goals: against the best llama.cpp 1.0x at 1, 1.3x at 8, 1.5x at 32 at a time; against",
        "transformers 5x everywhere.",
    ]
    lines += [
        "",
        "## What the machine allows",
        "",
        *(f"- {key.replace('_', ' ')}: {value:,}" for key, value in limits.items()),
        "",
        "One token needs one pass over 10.6 MB of int8 weights, whatever number of rows shares it,",
        "and 21.3 million operations for each row. The share of that limit which each row of the",
        "table reaches, attention, norms and draws not counted in the limit:",
        "",
        "| engine | " + " | ".join(rows) + " |",
        "|---|" + "---|" * len(rows),
    ]
    for name, by_rows in measured.items():
        shares = []
        for r, value in by_rows.items():
            passes = limits["read_10_mb_again_gb_s"] * 1e9 / MATRICES * int(r)
            products = limits["int8_gops_s"] * 1e9 / (2 * MATRICES)
            shares.append(f"{value['chars_per_second'] / min(passes, products):.0%}")
        lines.append(f"| {name} | {' | '.join(shares)} |")
    machine = result["machine"]
    lines += [
        "",
        "## The machine",
        "",
        described(machine) + f" {result['minutes']} minutes.",
        "",
    ]
    return "\n".join(lines)


def described(machine: dict[str, Any]) -> str:
    packages = ", ".join(f"{k} {v}" for k, v in machine["packages"].items())
    load = ", ".join(f"{x:.1f}" for x in machine["load_average"])
    return (
        f"{machine['processor']}, {machine['cores']} cores ({', '.join(machine['instructions'])}); "
        f"{machine['system']}; Python {machine['python']}; {packages}. Load average at the end: "
        f"{load}."
    )


def _plot(result: dict[str, Any], path: Path) -> None:
    plt = _pyplot()
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


def service(result: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "service.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    start, http = result["start"], result["http"]
    neighbours, memory = result["neighbours"], result["memory"]
    raw = sorted(http["raw_chars_per_second"])
    through = sorted(http["http_chars_per_second"])
    room = memory["import_torch_mb"] + 3 * WEIGHTS_MB + memory["cache_mb"]
    lines = [
        "# The service",
        "",
        "A real `python -m api` with keys, Redis and the demo model; its callers on the same",
        "machine. What is compared was measured in turns; medians. Written by `make bench`.",
        "",
        "| what | measured | goal |",
        "|---|---|---|",
        (
            f"| 32 clients streaming, characters/s | {through[len(through) // 2]:,} "
            f"({through[0]:,} to {through[-1]:,}) | |"
        ),
        (
            f"| the same from the engine alone, on as many threads | {raw[len(raw) // 2]:,} "
            f"({raw[0]:,} to {raw[-1]:,}) | |"
        ),
        f"| the service's share of the engine | **{http['share']:.0%}** | at least 85% |",
        (
            f"| first character, alone: median, p95 | {neighbours['alone_p50_ms']} ms, "
            f"{neighbours['alone_p95_ms']} ms | |"
        ),
        (
            "| the same while another tenant holds 64 requests in flight | "
            f"{neighbours['beside_p50_ms']} ms, {neighbours['beside_p95_ms']} ms | |"
        ),
        f"| p95 beside to p95 alone | **{neighbours['p95_ratio']}x** | at most 2x |",
        f"| process start to `/health` | {start['health_seconds']} s | |",
        f"| process start to `/ready` | {start['ready_seconds']} s | |",
        f"| `python -c 'import torch'` | {start['import_torch_seconds']} s | |",
        f"| `/ready` to `import torch` | **{start['ready_to_import_torch']}x** | at most 1.5x |",
        (
            f"| resident, {memory['requests'] // 10:,} requests | {memory['after_a_tenth_mb']} MB "
            f"| at most {room:.0f} MB: `import torch` ({memory['import_torch_mb']} MB), "
            f"3 x the weights ({WEIGHTS_MB} MB), the cache ({memory['cache_mb']} MB) |"
        ),
        f"| resident after {memory['requests']:,} more | **{memory['after_all_mb']} MB** | flat |",
        "",
        "## The machine",
        "",
        described(result["machine"]),
        "",
    ]
    (out / "service.md").write_text("\n".join(lines), encoding="utf-8")
    _plot_service(result, room, out / "service.png")


def _plot_service(result: dict[str, Any], room: float, path: Path) -> None:
    """Four pairs of what was measured and what it is held to; ours in blue, the goal a line."""
    start, http = result["start"], result["http"]
    near, memory = result["neighbours"], result["memory"]
    engine, through = http["raw_chars_per_second"], http["http_chars_per_second"]
    panels = (
        (
            "32 streams, characters/s",
            {"engine alone": statistics.median(engine), "service": statistics.median(through)},
            ("85% of the engine", 0.85 * statistics.median(engine)),
        ),
        (
            "first character, p95 in ms",
            {"alone": near["alone_p95_ms"], "beside 64 requests": near["beside_p95_ms"]},
            ("twice alone", 2 * near["alone_p95_ms"]),
        ),
        (
            "start, seconds",
            {
                "import torch": start["import_torch_seconds"],
                "/health": start["health_seconds"],
                "/ready": start["ready_seconds"],
            },
            ("1.5 x import torch", 1.5 * start["import_torch_seconds"]),
        ),
        (
            "resident, MB",
            {
                "import torch": memory["import_torch_mb"],
                f"{memory['requests'] // 10:,} requests": memory["after_a_tenth_mb"],
                f"{memory['requests']:,} more": memory["after_all_mb"],
            },
            ("bound", room),
        ),
    )
    plt = _pyplot()
    figure, grid = plt.subplots(2, 2, figsize=(9, 6), dpi=120)
    for axes, (title, bars, (goal, at)) in zip(grid.flat, panels, strict=True):
        others = {"engine alone", "import torch"}
        colors = ["0.6" if name in others else "tab:blue" for name in bars]
        drawn = axes.bar(list(bars), list(bars.values()), color=colors, width=0.6)
        axes.bar_label(drawn, fmt="{:,.4g}", fontsize=8)
        axes.axhline(at, color="tab:red", linestyle="--", linewidth=1, label=goal)
        axes.set_title(title, fontsize=10)
        axes.margins(y=0.25)
        axes.legend(fontsize=8, loc="upper left")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt
