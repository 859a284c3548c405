"""What strangers named, made fit for a terminal and a log: no control characters, no new lines."""

from __future__ import annotations


def shown(text: object, *, keep: str = "", most: int | None = 200) -> str:
    """Return a text with U+FFFD for each character that does not print, apart from `keep`.

    It is cut at `most` characters; None: never.
    """
    whole = str(text)
    cut = whole if most is None or len(whole) <= most else f"{whole[:most]}…"
    return "".join(c if c.isprintable() or c in keep else "\ufffd" for c in cut)
