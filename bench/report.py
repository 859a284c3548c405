"""Tables in Markdown, numbers in JSON, plots as PNG: `bench/results/`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

WEIGHTS_MB = 20.5  # model.safetensors


def described(machine: dict[str, Any]) -> str:
    packages = ", ".join(f"{k} {v}" for k, v in machine["packages"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores ({', '.join(machine['instructions'])}); "
        f"{machine['system']}; Python {machine['python']}; {packages}."
    )


def build(of: dict[str, Any]) -> str:
    """Return the sentence that says what was measured when, and what else the machine did."""
    first, last = (", ".join(map(str, of[f"load_at_{when}"])) for when in ("start", "end"))
    return (
        f"Measured {of['date']} at commit {of['commit']}; rounds: {of['rounds']}; load average "
        f"{first} at the start, {last} at the end."
    )


def service(result: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "service.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    start, http, memory = result["start"], result["http"], result["memory"]
    raw, best, through = (
        sorted(http[f"{what}chars_per_second"]) for what in ("raw_", "best_raw_", "http_")
    )
    room = memory["import_torch_mb"] + 3 * WEIGHTS_MB + memory["cache_mb"]
    lines = [
        "# The service",
        "",
        build(result["build"]),
        "",
        "A real `python -m api` with keys, Redis and the demo model; its callers on the same",
        "machine. What is compared was measured in turns; medians of rounds (least to most), a",
        "ratio's from the ratios of each round. Written by `make bench`.",
        "",
        "| what | measured | goal |",
        "|---|---|---|",
        f"| 32 clients streaming 1,000 characters each, characters/s | {_of(through)} | |",
        f"| the same from the engine alone, {http['threads']} thread | {_of(raw)} | |",
        f"| ... at its best, threads: {http['best_threads']} | {_of(best)} | |",
        (
            "| the service's share of the engine on as many threads | "
            f"**{_spread(http['share'], '%')}** | at least 85% |"
        ),
        f"| ... of the engine at its best | {_spread(http['share_of_best'], '%')} | |",
        f"| process start to `/health` | {_spread(start['health_seconds'], ' s')} | |",
        f"| process start to `/ready` | {_spread(start['ready_seconds'], ' s')} | |",
        f"| `python -c 'import torch'` | {_spread(start['import_torch_seconds'], ' s')} | |",
        (
            "| `/ready` to `import torch` | "
            f"**{_spread(start['ready_to_import_torch'], 'x')}** | at most 1.5x |"
        ),
        (
            f"| resident, {memory['requests'] // 10:,} requests | {memory['after_a_tenth_mb']} MB "
            f"| at most {room:.0f} MB: `import torch` ({memory['import_torch_mb']} MB), "
            f"3 x the weights ({WEIGHTS_MB} MB), the cache ({memory['cache_mb']} MB) |"
        ),
        (
            f"| resident after {memory['requests']:,} more | **{memory['after_all_mb']} MB** "
            f"({memory['each_tenth_mb']['least']} to {memory['each_tenth_mb']['most']} on the way) "
            "| flat |"
        ),
        "",
        "The goal of 85% is held against the engine on as many threads as the service gives it:",
        "what keys, limits and HTTP cost. The service keeps one core for them and for everybody",
        "else (two threads that wait for a core that others use are slower than one), which is",
        "what the share of the engine at its best shows beside it.",
        "",
        "## A noisy neighbour",
        "",
        "The time to the first text, alone and while another tenant holds 64 requests in flight;",
        "of each round the median and the 95th percentile. *Short texts beside long ones*: no",
        "prompts, 20 characters beside 2,000. *Prompts beside prompts*: a prompt of 250 and a text",
        "of 60 characters, beside prompts of 120 to 250 and texts of 20. *Prompts beside long",
        "texts*: the same beside texts of 2,000. Goal: p95 at most 2x.",
        "",
        "| case | alone: median | p95 | beside: median | p95 | p95 beside to alone |",
        "|---|---|---|---|---|---|",
        *(_case(name, case) for name, case in result["neighbours"].items()),
        "",
        "## The machine",
        "",
        described(result["machine"]) + f" {result['minutes']} minutes.",
        "",
    ]
    (out / "service.md").write_text("\n".join(lines), encoding="utf-8")
    _plot_service(result, room, out / "service.png")


def _case(name: str, case: dict[str, Any]) -> str:
    times = ("alone_p50_ms", "alone_p95_ms", "beside_p50_ms", "beside_p95_ms")
    cells = [_spread(case[key], " ms") for key in times]
    return f"| {name} | {' | '.join(cells)} | **{_spread(case['p95_ratio'], 'x')}** |"


def _of(rates: list[int]) -> str:
    return f"{statistics.median(rates):,.0f} ({rates[0]:,} to {rates[-1]:,})"


def _spread(values: dict[str, float], unit: str) -> str:
    shown = "{:.0%}".format if unit == "%" else lambda value: f"{value}{unit}"
    median, least, most = (shown(values[name]) for name in ("median", "least", "most"))
    return f"{median} ({least} to {most})"


def _plot_service(result: dict[str, Any], room: float, path: Path) -> None:
    """Four pairs of what was measured and what it is held to; ours in blue, the goal a line."""
    start, http = result["start"], result["http"]
    memory = result["memory"]
    near = result["neighbours"]["prompts beside prompts"]
    alone, beside = (near[f"{which}_p95_ms"]["median"] for which in ("alone", "beside"))
    torch = start["import_torch_seconds"]["median"]
    engine, through = http["raw_chars_per_second"], http["http_chars_per_second"]
    panels = (
        (
            "32 streams, characters/s",
            {"engine alone": statistics.median(engine), "service": statistics.median(through)},
            ("85% of the engine", 0.85 * statistics.median(engine)),
        ),
        (
            "first character beside prompts, p95 in ms",
            {"alone": alone, "beside 64 requests": beside},
            ("twice alone", 2 * alone),
        ),
        (
            "start, seconds",
            {
                "import torch": torch,
                "/health": start["health_seconds"]["median"],
                "/ready": start["ready_seconds"]["median"],
            },
            ("1.5 x import torch", 1.5 * torch),
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
    plt = pyplot()
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


def pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt
