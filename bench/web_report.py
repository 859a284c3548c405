"""What `bench.web` found: a table in Markdown, numbers in JSON, a plot; `bench/results/web.*`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.report import described

MEMORY_GOAL_MB = 250
CORES_GOAL = 0.10


def written(result: dict[str, Any], out: Path) -> None:
    """Write the three files and show the table."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "web.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = _table(result)
    (out / "web.md").write_text(text, encoding="utf-8")
    _plot(result, out / "web.png")
    print(text)


def _table(result: dict[str, Any]) -> str:
    lines = [
        "# The web app",
        "",
        "One `python -m web` with ten real Chromium tabs, in front of an API that writes 100",
        "characters a second in 20 events. A stream's cost is the CPU time of the web process",
        "beyond the idling of the same tabs; the median of rounds that took turns. Ten tabs share",
        "this machine's cores with the web app and draw less often than ten people's own would:",
        "one at a time is the figure to reckon with. Written by `python -m bench.web`.",
        "",
        "| what | measured | goal |",
        "|---|---|---|",
    ]
    weights = list(result["memory_mb"].items())
    for name, weight in weights:
        goal = f"under {MEMORY_GOAL_MB} MB" if "sessions" in name else ""
        lines.append(f"| resident, {name} | **{weight:.0f} MB** | {goal} |")
    for streams, found in result["cores_per_stream"].items():
        low, high = min(found["rounds"]), max(found["rounds"])
        lines.append(
            f"| of a core for each stream, {streams} at a time | **{found['median']:.1%}** "
            f"({low:.1%} to {high:.1%}) | under {CORES_GOAL:.0%} |"
        )
    return "\n".join([*lines, "", "## The machine", "", described(result["machine"]), ""])


def _plot(result: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (memory, cores) = plt.subplots(1, 2, figsize=(10, 3.6), dpi=120)
    names = [name.replace(", ", ",\n", 1) for name in result["memory_mb"]]
    memory.barh(names[::-1], list(result["memory_mb"].values())[::-1], color="#4c6ef5")
    memory.axvline(MEMORY_GOAL_MB, color="black", linestyle="--", linewidth=1)
    memory.set_xlabel(f"MB resident (goal: under {MEMORY_GOAL_MB})")
    shares = result["cores_per_stream"]
    positions = range(len(shares))
    cores.bar(positions, [100 * one["median"] for one in shares.values()], color="#4c6ef5")
    for position, one in zip(positions, shares.values(), strict=True):
        rounds = [100 * share for share in one["rounds"]]
        cores.plot([position] * len(rounds), rounds, "k_", markersize=12)
    cores.axhline(100 * CORES_GOAL, color="black", linestyle="--", linewidth=1)
    cores.set_xticks(list(positions), [f"{streams} at a time" for streams in shares])
    cores.set_ylabel("% of a core for each stream\n(goal: under 10)")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
