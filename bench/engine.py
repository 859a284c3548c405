"""This engine and its peers on the same weights, in turns: `python -m bench.engine --out DIR`.

Every figure is the median over rounds; in a round each engine has its turn at each number of
sequences, so that what else the machine does falls on all of them. An engine's threads are those
with which it is fastest. What the machine could do at most is measured in every round too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import engine_report, machine
from bench.contestants import CONTESTANTS

ROWS = (1, 8, 16, 32)
CHARS = 200
# What takes minutes at full length is measured on fewer characters, which favours it: the context
# that it computes anew is shorter.
SHORT = {"nanoGPT full recompute": 40}
RARELY = {"nanoGPT full recompute", "transformers generate"}  # in the first rounds only


class Contestant:
    """An engine's process."""

    def __init__(self, name: str, model: Path, scratch: Path) -> None:
        self.name = name
        self.way = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.contestants", name, str(model), str(scratch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def generate(self, rows: int, chars: int, threads: int) -> float:
        """Return how many seconds it took, trials of the engine's ways not counted."""
        assert self._process.stdin is not None
        order = {"rows": rows, "chars": chars, "threads": threads}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.way = str(answer["way"])
        return float(answer["seconds"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended; run python -m bench.contestants to see why")
        return json.loads(line)


def measure(names: list[str], model: Path, rounds: int) -> dict[str, Any]:
    """Return {"rates": {name: {rows: {threads: [characters/s]}}}} and what stands beside it."""
    rates: dict[str, dict[int, dict[int, list[float]]]] = {
        name: {rows: {1: [], 2: []} for rows in ROWS} for name in names
    }
    first: dict[str, list[float]] = {name: [] for name in names}
    limits: list[dict[str, float]] = []
    ways: dict[tuple[str, int, int], str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        contestants = [Contestant(name, model, Path(scratch)) for name in names]
        begun = time.monotonic()
        for number in range(rounds):
            limits.append(machine.limits())
            for contestant in contestants:
                if number >= 2 and contestant.name in RARELY:
                    continue
                first[contestant.name].append(contestant.generate(1, 1, 1) * 1000)
            for rows in ROWS:
                for threads in (1, 2):
                    for contestant in contestants:
                        if number >= 2 and contestant.name in RARELY:
                            continue
                        chars = SHORT.get(contestant.name, CHARS)
                        seconds = contestant.generate(rows, chars, threads)
                        ways[contestant.name, rows, threads] = contestant.way
                        rates[contestant.name][rows][threads].append(rows * chars / seconds)
            spent = (time.monotonic() - begun) / 60
            print(
                f"engine: round {number + 1} of {rounds}, {spent:.1f} minutes so far",
                file=sys.stderr,
            )
        for contestant in contestants:
            contestant.close()
    return {"rates": rates, "first_ms": first, "limits": limits, "ways": ways}


def summed_up(raw: dict[str, Any]) -> dict[str, Any]:
    """Return each engine's median and spread at its better number of threads."""
    engines = {}
    for name, by_rows in raw["rates"].items():
        engines[name] = {}
        for rows, by_threads in by_rows.items():
            threads = max(by_threads, key=lambda t: statistics.median(by_threads[t]))
            runs = by_threads[threads]
            engines[name][str(rows)] = {
                "chars_per_second": round(statistics.median(runs)),
                "least": round(min(runs)),
                "most": round(max(runs)),
                "runs": len(runs),
                "chars": SHORT.get(name, CHARS),
                "way": raw["ways"].get((name, rows, threads), ""),
                "threads": int(threads),
            }
    first = {name: round(statistics.median(runs), 2) for name, runs in raw["first_ms"].items()}
    limits = {  # other work only slows a run: the most that was seen
        key: round(max(limit[key] for limit in raw["limits"]), 2) for key in raw["limits"][0]
    }
    return {"engines": engines, "first_char_ms": first, "limits": limits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("models/demo"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS))
    arguments = parser.parse_args()
    machine.ask_for_priority()
    begin, build = time.time(), machine.begun(arguments.rounds)
    result = summed_up(measure(arguments.only, arguments.model, arguments.rounds))
    result["build"] = machine.ended(build)
    result["machine"] = machine.described()
    result["minutes"] = round((time.time() - begin) / 60, 1)
    engine_report.write(result, arguments.out)


if __name__ == "__main__":
    main()
