"""Characters of a prompt that the model has no token for: which, how they are called, what instead.

The API names them in a sentence, each in quotes; of a sentence of another kind nothing is read,
and then there is nothing to offer. Pure.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Sequence

_QUOTED = re.compile(r'"((?:\\u[0-9a-fA-F]{4}){1,2}|\\[bfnrt"\\]|.)"', re.DOTALL)
_NAMES = {
    "\t": "tab",
    "\n": "line break",
    "\r": "carriage return",
    "\u00a0": "no-break space",
    "\u00ad": "soft hyphen",
    "\u200d": "joiner",
    "\ufe0f": "emoji sign",
    "\ufeff": "byte order mark",
}
# What phones and word processors put for what a keyboard has, and the latter, the likeliest first.
_PLAIN: dict[str, Sequence[str]] = {
    **dict.fromkeys("’‘‚‛′´`", ("'",)),  # noqa: RUF001  # the look-alikes themselves
    **dict.fromkeys("“”„‟″«»", ('"', "'")),
    '"': ("'",),
    **dict.fromkeys("–—―‐‑‒−", ("-",)),  # noqa: RUF001  # the look-alikes themselves
    "…": ("...",),
    "\t": (" ",),
    "\r": ("\n",),
    "\u2028": ("\n",),
    "\u2029": ("\n",),
}


def unknown_in(detail: str) -> list[str]:
    """Return the characters that the API's sentence names."""
    found = (json.loads(f'"{one}"') if len(one) > 1 else one for one in _QUOTED.findall(detail))
    return [char for char in dict.fromkeys(found) if len(char) == 1]


def told_unknown(detail: str) -> str:
    """Return the sentence for the person, "" if the API's names no characters."""
    unknown = unknown_in(detail)
    if not unknown:
        return ""
    seen = " ".join(char for char in unknown if _is_seen(char))
    named = [_name(char) for char in unknown if not _is_seen(char)]
    these = "this character" if len(unknown) == 1 else "these characters"
    more = re.search(r" and (\d+) more", detail)
    rest = f", and {more[1]} more" if more else ""
    return f"The model does not know {these}: {', '.join([seen, *named] if seen else named)}{rest}."


def mended(prompt: str, unknown: Collection[str]) -> str:
    """Return the prompt without these characters: by what looks alike where there is such a one."""
    return prompt.translate({ord(char): instead_of(char, unknown) for char in unknown})


def instead_of(char: str, unknown: Collection[str]) -> str:
    """Return what may stand for a character and is not unknown itself, "" if nothing may."""
    parts = unicodedata.normalize("NFKD", char)
    bare = "".join(part for part in parts if not unicodedata.combining(part))
    candidates = [*_PLAIN.get(char, ()), *([bare] if bare.isascii() else [])]
    return next((one for one in candidates if not set(one) & set(unknown)), "")


def offer(prompt: str, unknown: Collection[str]) -> str:
    """Return what the button is called that mends a prompt, "" if nothing in it is unknown."""
    replaced = [bool(instead_of(char, unknown)) for char in unknown if char in prompt]
    if not replaced:
        return ""
    if all(replaced):
        return "Replace by plain ones"
    return "Replace or remove them" if any(replaced) else "Remove them"


def _is_seen(char: str) -> bool:
    return char.isprintable() and not char.isspace() and unicodedata.category(char)[0] != "M"


def _name(char: str) -> str:
    return _NAMES.get(char) or unicodedata.name(char, f"U+{ord(char):04X}").lower()
