"""At three in the morning every line of the log can be looked up."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
TERMINAL = {"api.waiting", "audit.cut"}  # said by the command line to whoever typed it


def logged() -> set[str]:
    """Return the messages that the service logs; the generator logs sentences."""
    found = set()
    for room in ("api", "auth"):
        for path in set((ROOT / room).rglob("*.py")) - set((ROOT / "api" / "gpt").rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Call(
                        func=ast.Attribute(
                            value=ast.Name(id="log"),
                            attr="debug" | "info" | "warning" | "error" | "exception",
                        ),
                        args=[ast.Constant(value=str(message)), *_],
                    ):
                        found.add(message)
    return found


def test_every_message_of_the_log_is_in_the_operations_guide():
    """A message has a row in the table of docs/operations.md, and no row is of none."""
    guide = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = guide.split("| `message` |")[1].split("\n\n")[0].splitlines()[2:]
    told = {name for row in table for name in row.split("|")[1].replace("`", "").split(", ")}
    told = {name.strip() for name in told}
    assert told == {message for message in logged() if message not in TERMINAL} | {"request"}
    assert {"generation.settled", "model.failed"} <= logged()
