"""Text to token ids and back; a prompt that cannot be encoded is refused by naming its characters.

`tokenizer.json` holds `{"type": "char", "chars": ["\\n", " ", ...]}`, where token i is character i,
or a byte-pair encoding (`api.gpt.bpe`). Both are data: reading one runs nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from api.gpt.request import NotEncodableError


class Detokenizer(Protocol):
    """Spells one text token by token. No character comes out before all of it is there."""

    def push(self, token: int) -> str:
        """Return the characters that this token completes."""

    def flush(self) -> str:
        """Return what is left when no token follows."""


class Tokenizer(Protocol):
    """What turns text into tokens `0..vocab_size - 1` and back. Threads may share one."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def end_of_text(self) -> int | None:
        """The token that ends a text and spells nothing; None: there is none."""

    @property
    def start_text(self) -> str:
        """What a text begins after: a document's end, a line's end, else any character."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text. Raise NotEncodableError for characters without any."""

    def decode(self, ids: Iterable[int]) -> str: ...
    def detokenizer(self) -> Detokenizer: ...
    def to_json(self) -> dict[str, Any]: ...


def from_json(document: Any) -> Tokenizer:
    """Read what a tokenizer's `to_json` wrote. Raise ValueError on anything else."""
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "char":
        return CharTokenizer.from_json(document)
    if kind == "bpe":
        from api.gpt.bpe import BpeTokenizer  # its library: only for who has such a model

        return BpeTokenizer.from_json(document)
    raise ValueError('must be an object with "type": "char" or "bpe"')


class CharTokenizer:
    """One token per character (code point)."""

    end_of_text: int | None = None

    def __init__(self, chars: Sequence[str]) -> None:
        """Raise ValueError unless `chars` are distinct single characters."""
        if not chars or any(not isinstance(c, str) or len(c) != 1 for c in chars):
            raise ValueError("a character tokenizer needs a list of single characters")
        if len(set(chars)) != len(chars):
            raise ValueError("a character tokenizer lists every character once")
        if any("\ud800" <= c <= "\udfff" for c in chars):
            raise ValueError("a character tokenizer lists no halves of surrogate pairs")
        self.chars = tuple(chars)
        self._ids = {c: i for i, c in enumerate(self.chars)}

    @classmethod
    def from_text(cls, text: str) -> CharTokenizer:
        """Build the vocabulary of a text: its characters, sorted by code point."""
        return cls(sorted(set(text)))

    @classmethod
    def from_json(cls, document: Any) -> CharTokenizer:
        """Read what `to_json` wrote. Raise ValueError on anything else."""
        chars = document.get("chars")
        if not isinstance(chars, list):
            raise ValueError('must hold "chars", a list of single characters')
        return cls(chars)

    def to_json(self) -> dict[str, Any]:
        return {"type": "char", "chars": list(self.chars)}

    @property
    def vocab_size(self) -> int:
        return len(self.chars)

    @property
    def start_text(self) -> str:
        return next((c for c in "\n " if c in self._ids), self.chars[0])

    def encode(self, text: str) -> list[int]:
        """Return one id per character. Raise NotEncodableError if any has no token."""
        try:
            return [self._ids[c] for c in text]
        except KeyError:
            unknown = dict.fromkeys(c for c in text if c not in self._ids)
            raise NotEncodableError(tuple(unknown)) from None

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.chars[i] for i in ids)

    def detokenizer(self) -> Detokenizer:
        return _CharDetokenizer(self.chars)


class _CharDetokenizer:
    """Every token is a character."""

    def __init__(self, chars: Sequence[str]) -> None:
        self._chars = chars

    def push(self, token: int) -> str:
        return self._chars[token]

    def flush(self) -> str:
        return ""
