"""Text to token ids and back; a prompt that cannot be encoded is refused by naming its characters.

`tokenizer.json` holds `{"type": "char", "chars": ["\\n", " ", ...]}`: token i is character i.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from api.gpt.request import NotEncodableError


class CharTokenizer:
    """One token per character (code point)."""

    def __init__(self, chars: Sequence[str]) -> None:
        """Raise ValueError unless `chars` are distinct single characters."""
        if not chars or any(not isinstance(c, str) or len(c) != 1 for c in chars):
            raise ValueError("a character tokenizer needs a list of single characters")
        if len(set(chars)) != len(chars):
            raise ValueError("a character tokenizer lists every character once")
        self.chars = tuple(chars)
        self._ids = {c: i for i, c in enumerate(self.chars)}

    @classmethod
    def from_text(cls, text: str) -> CharTokenizer:
        """Build the vocabulary of a text: its characters, sorted by code point."""
        return cls(sorted(set(text)))

    @classmethod
    def from_json(cls, document: Any) -> CharTokenizer:
        """Read what `to_json` wrote. Raise ValueError on anything else."""
        if not isinstance(document, dict) or document.get("type") != "char":
            raise ValueError('tokenizer.json must be an object with "type": "char"')
        chars = document.get("chars")
        if not isinstance(chars, list):
            raise ValueError('tokenizer.json must hold "chars", a list of single characters')
        return cls(chars)

    def to_json(self) -> dict[str, Any]:
        return {"type": "char", "chars": list(self.chars)}

    @property
    def vocab_size(self) -> int:
        return len(self.chars)

    def encode(self, text: str) -> list[int]:
        """Return one id per character. Raise NotEncodableError if any has no token."""
        try:
            return [self._ids[c] for c in text]
        except KeyError:
            unknown = dict.fromkeys(c for c in text if c not in self._ids)
            raise NotEncodableError(tuple(unknown)) from None

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.chars[i] for i in ids)
