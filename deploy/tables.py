"""`python -m deploy.tables`: write the computed tables of the documents anew.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; a test holds that what stands
there is what this computes. A file that is missing or malformed raises, and no document is changed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from deploy import costs, secret_costs, sizing, speed

DOCUMENTS = (
    Path("README.md"),
    *(Path("docs") / f"{name}.md" for name in ("deploy", "scaling", "secret-manager")),
)
_TABLE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def read(name: str) -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def months() -> str:
    prices, measured = read("prices.toml"), read("measured.toml")
    head = ["$ a month", *(f"{one.name}: {one.texts_per_day:,} texts a day" for one in costs.LOADS)]
    rows: list[list[object]] = [
        ["instances", *(costs.instances(load, measured) for load in costs.LOADS)],
        [
            "busy",
            *(f"{costs.busy_share(load, measured):.1%}" for load in costs.LOADS),
        ],
    ]
    ways: tuple[tuple[str, Callable[[costs.Load], float]], ...] = (
        (
            "Cloud Run, throttled, `--min-instances 0`",
            lambda load: costs.throttled(load, prices, measured, least=0),
        ),
        (
            "Cloud Run, throttled, `--min-instances 1`",
            lambda load: costs.throttled(load, prices, measured, least=1),
        ),
        (
            "Cloud Run, `--no-cpu-throttling`",
            lambda load: costs.always(load, prices, measured),
        ),
    )
    rows += [[name, *(_money(way(load)) for load in costs.LOADS)] for name, way in ways]
    beside = [costs.around(load, prices) for load in costs.LOADS]
    rows += [[name, *(_money(one[name]) for one in beside)] for name in beside[0]]
    rows.append(
        [
            "**all, with the cheapest of the three**",
            *(
                f"**{_money(min(way(load) for _, way in ways) + sum(beside[n].values()))}**"
                for n, load in enumerate(costs.LOADS)
            ),
        ]
    )
    return table(head, rows)


def price_list() -> str:
    rows = []
    for group, prices in read("prices.toml").items():
        named = []
        for name, price in prices.items():
            if name not in ("seen", "assumed"):
                mark = " (assumed)" if name in prices["assumed"] else ""
                named.append(f"{name} {price:,.8g}{mark}")
        rows.append([cell.replace("_", " ") for cell in (group, "<br>".join(named))])
        rows[-1].append(prices["seen"])
    return table(["what", "$", "where and when it was read"], rows)


def figures() -> str:
    return table(
        ["measured", "figure"],
        [[name.replace("_", " "), value] for name, value in read("measured.toml").items()],
    )


def keyrings() -> str:
    prices, measured = read("prices.toml"), read("measured.toml")
    rows = []
    for keys in (10, 100, 1_000, 10_000, 100_000):
        for instances in (1, 10, 100):
            ring = sizing.keyring(keys, instances, prices, measured)
            if instances == 1 or keys >= 10_000:
                rows.append(
                    [
                        f"{keys:,}",
                        instances,
                        ring.shards if ring.fits else f"{ring.shards} (too many)",
                        f"{ring.bytes / 1024:,.0f} KiB",
                        f"{ring.accesses_a_month:,.0f}",
                        f"${ring.dollars_a_month:,.2f}",
                    ]
                )
    head = ["keys", "instances", "shards", "keyring", "accesses a month", "Secret Manager a month"]
    return table(head, rows)


def traffics() -> str:
    measured = read("measured.toml")
    rows = []
    for rate in (1, 10, 100, 1_000, 10_000):
        one = sizing.traffic(rate, measured)
        rows.append(
            [
                f"{rate:,}",
                f"{one.gateway_instances:,}",
                f"{one.text_instances:,}",
                f"{one.redis_calls_per_second:,.0f}",
                f"{one.redis_core_share:.1%}",
            ]
        )
    head = [
        "requests/s",
        "instances, if each is one character",
        f"instances, if each is {measured['text_chars']} characters",
        "Redis calls/s",
        "of one Redis processor",
    ]
    return table(head, rows)


def memories() -> str:
    measured = read("measured.toml")
    rows = []
    for keys in (10, 100, 1_000, 10_000, 100_000):
        one = sizing.memory(keys, measured)
        held = (one.month_bytes, one.full_bytes, one.refused_bytes)
        rows.append([f"{keys:,}", *map(_mebibytes, held), f"{one.capacity_gb} GB"])
    head = ["keys in daily use", "after 30 days", "after 400 days", "... refused daily too"]
    return table([*head, "`--size`"], rows)


def secrets() -> str:
    prices, measured = read("prices.toml"), read("measured.toml")
    at_ease = secret_costs.keys_a_shard(measured)
    rows = []
    for shards in (4, 16, 64, 256):
        habit = secret_costs.Habit(shards=shards)
        year = 12 * secret_costs.month(habit, prices)
        rows.append([shards, f"{shards * at_ease:,}", f"{habit.versions:.0f}", f"{year:.0f}"])
    return table(["shards", "keys, at ease", "versions kept", "$ a year"], rows)


def speeds() -> str:
    return table(
        ["", *(f"{n} at a time" for n in speed.AT_A_TIME)], speed.engines(speed.read("engine"))
    )


def served() -> str:
    return table(["in one run", ""], speed.service(speed.read("service")))


TABLES: dict[str, Callable[[], str]] = {
    "months": months,
    "prices": price_list,
    "figures": figures,
    "keyrings": keyrings,
    "memory": memories,
    "secrets": secrets,
    "service": served,
    "speed": speeds,
    "traffic": traffics,
}


def filled(document: str) -> str:
    """Return the document with every table computed anew."""
    return _TABLE.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], document)


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB" if size < 2**30 else f"{size / 2**30:,.1f} GiB"


def _money(dollars: float) -> str:
    return f"{dollars:,.2f}" if dollars < 100 else f"{dollars:,.0f}"


def main() -> int:
    texts = {path: filled(path.read_text(encoding="utf-8")) for path in DOCUMENTS}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
