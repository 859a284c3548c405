"""What gateway.py measured, as a table in Markdown, numbers in JSON and a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.report import build, described

MEANING = {
    "bare": "a Flask route that returns JSON",
    "flask-limiter": "the same route, three windows and headers by flask-limiter",
    "guarded": "the same answer behind the guards of `POST /generate`: key, all limits, headers",
    "generate": "`POST /generate` on an engine that answers at once: charged, settled, logged",
    "litellm": "LiteLLM's proxy, one worker, master key, mock response",
}


def report(result: dict[str, Any], out: Path) -> None:
    """Write the table, the numbers and the plot."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "gateway.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# The gateway and its peers",
        "",
        build(result["build"]),
        "",
        "Requests per second; median of interleaved rounds (least to most). Written by `python -m",
        (
            f"bench.gateway`: {result['client']}, {result['connections']} connections,"
            f" {result['seconds_per_round']:.0f} s a round,"
            f" {len(result['contenders']['bare']['rounds'])} rounds."
        ),
        "",
        "| contender | requests/s | what it is |",
        "|---|---|---|",
    ]
    for name, one in result["contenders"].items():
        spread = f"{one['requests_per_second']:.0f} ({one['least']:.0f} to {one['most']:.0f})"
        lines.append(f"| {name} | {spread} | {MEANING[name]} |")
    lines += [f"| {name} | not measured | {why} |" for name, why in result["not_measured"].items()]
    lines += ["", "| | ratio (least to most) | goal | |", "|---|---|---|---|"]
    for one in result["ratios"]:
        said = "reached" if one["ratio"] >= one["goal"] else "not reached"
        spread = f"{one['ratio']:.2f} ({one['least']:.2f} to {one['most']:.2f})"
        lines.append(
            f"| {one['contender']} / {one['against']} | {spread} | {one['goal']} | {said} |"
        )
    lines += ["", "Redis commands for each request, by `INFO commandstats`:", ""]
    for name, sent in result["redis_commands_per_request"].items():
        told = ", ".join(f"{count:g} {command}" for command, count in sent.items() if count)
        lines.append(f"- {name}: {told}")
    lines += _costs(result)
    lines += [
        "",
        described(result["machine"]) + f" {result['minutes']} minutes. The client, Redis and the "
        "server share its cores.",
        "",
    ]
    (out / "gateway.md").write_text("\n".join(lines), encoding="utf-8")
    _plot(result, out / "gateway.png")


def _costs(result: dict[str, Any]) -> list[str]:
    """Where the time goes: of each request, and how much of it is processor time of whom."""
    contenders = result["contenders"].items()
    rows = [(name, one) for name, one in contenders if one["processor_microseconds"]]
    if not rows:
        return []
    lines = ["", "Microseconds a request, all connections together:", ""]
    lines += ["| contender | from one answer to the next | processor: server | Redis |"]
    lines += ["|---|---|---|---|"]
    for name, one in rows:
        cost = one["processor_microseconds"]
        each = 1e6 / one["requests_per_second"]
        lines.append(f"| {name} | {each:.0f} | {cost['server']:.0f} | {cost['redis']:.0f} |")
    return lines


def _plot(result: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(result["contenders"])
    values = [result["contenders"][name] for name in names]
    middle = [one["requests_per_second"] for one in values]
    spread = [
        [m - one["least"] for m, one in zip(middle, values, strict=True)],
        [one["most"] - m for m, one in zip(middle, values, strict=True)],
    ]
    colors = ["tab:blue" if name in ("guarded", "generate") else "0.6" for name in names]
    figure, axes = plt.subplots(figsize=(7, 4), dpi=120)
    axes.bar(names, middle, yerr=spread, capsize=4, color=colors)
    axes.set_ylabel("requests per second")
    axes.set_title("Blue: behind Quillgate's guards")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
