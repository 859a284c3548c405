"""The commands in Markdown files: every fenced block says by its first line how it is kept true.

```sh           run by the tests, in order, in one shell for each document
```sh cloud     needs a cloud account: its syntax is checked, and its programs are known ones
```sh yours     sets what differs for everybody: the tests set their own
```sh test=F    the test file F runs these very commands
```python, js   run by the tests, each as a program of its own
```json, text, toml, yaml, lua   shown, not run
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
SHOWN = {"json", "text", "toml", "yaml", "lua"}
RUN = {"sh", "python", "js"}


@dataclass(frozen=True)
class Block:
    """One fenced block of a document."""

    document: Path
    line: int
    language: str
    how: str  # "", "cloud", "yours" or "test=..."
    text: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


def blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        language, _, how = match[1].strip().partition(" ")
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(document, line, language, how, match[2]))
    return found
