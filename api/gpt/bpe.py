"""GPT-2's byte-level byte-pair encoding: every text has tokens, and half a character never shows.

A token spells bytes, not characters: `Ġthe` is `b" the"`, and a character outside ASCII may take
several tokens. So text is decoded from the bytes of all tokens so far, and a character is handed
out when its last byte is there; bytes that are no UTF-8 become U+FFFD, one for each maximal part
as the Unicode standard (3.9) recommends.

`tokenizer.json`: `{"type": "bpe", "tokens": [...], "merges": [[left, right], ...], "added": [...],
"end_of_text": ..., "add_prefix_space": ...}`. Token i is `tokens[i]` in GPT-2's alphabet for bytes,
or, if it is among `added`, plain text that is one token wherever it stands in a prompt. Radford et
al. (2019), section 2.2; the alphabet and the pattern that splits words are those of their code.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import AddedToken, models, pre_tokenizers
from tokenizers import Tokenizer as Encoder

from api.gpt.request import NotEncodableError
from api.gpt.tokenizer import Detokenizer

END_OF_TEXT = "<|endoftext|>"
LONGEST = (
    1024  # symbols of a token; GPT-2's longest has 128. One token is one step of the generator
)


def _byte_alphabet() -> dict[str, int]:
    """Return GPT-2's character for each byte: itself where it prints, else from U+0100 on."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {
        chr(0x100 + i): byte for i, byte in enumerate(others)
    }


BYTES = _byte_alphabet()


class BpeTokenizer:
    """Tokens that spell bytes, merged in the order of `merges`."""

    def __init__(
        self,
        tokens: Sequence[str],
        merges: Sequence[tuple[str, str]],
        *,
        added: Sequence[str] = (),
        end_of_text: str | None = None,
        add_prefix_space: bool = False,
    ) -> None:
        """Raise ValueError for what is no byte-level encoding."""
        self._tokens, self._merges, self._added = tuple(tokens), tuple(merges), tuple(added)
        self.end_of_text_name, self._add_prefix_space = end_of_text, add_prefix_space
        ids = {token: i for i, token in enumerate(self._tokens)}
        _check(ids, self._tokens, self._merges, self._added)
        if end_of_text is not None and end_of_text not in ids:
            raise ValueError(f"{end_of_text!r} is no token")
        self.end_of_text = None if end_of_text is None else ids[end_of_text]
        plain = set(self._added)
        self._spelling = tuple(
            token.encode() if token in plain else _bytes_of(token) for token in self._tokens
        )
        self._known = {BYTES[token] for token in self._tokens if token in BYTES}
        self._encoder = Encoder(models.BPE(vocab=ids, merges=list(self._merges)))
        self._encoder.pre_tokenizer = pre_tokenizers.ByteLevel(
            add_prefix_space=add_prefix_space, use_regex=True
        )
        self._encoder.add_tokens([AddedToken(token, normalized=False) for token in self._added])

    @classmethod
    def from_json(cls, document: Any) -> BpeTokenizer:
        """Read what `to_json` wrote. Raise ValueError on anything else."""
        tokens, merges, added = (document.get(key) for key in ("tokens", "merges", "added"))
        end_of_text, space = document.get("end_of_text"), document.get("add_prefix_space")
        for key, value in (("tokens", tokens), ("added", added)):
            if not isinstance(value, list) or any(not isinstance(t, str) for t in value):
                raise ValueError(f'must hold "{key}", a list of strings')
        if not isinstance(merges, list) or any(not _is_pair(pair) for pair in merges):
            raise ValueError('must hold "merges", a list of pairs of strings')
        if end_of_text is not None and not isinstance(end_of_text, str):
            raise ValueError('"end_of_text" must be a string or null')
        if not isinstance(space, bool):
            raise ValueError('"add_prefix_space" must be true or false')
        return cls(
            tokens,
            [(left, right) for left, right in merges],
            added=added,
            end_of_text=end_of_text,
            add_prefix_space=space,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "bpe",
            "tokens": list(self._tokens),
            "merges": [list(pair) for pair in self._merges],
            "added": list(self._added),
            "end_of_text": self.end_of_text_name,
            "add_prefix_space": self._add_prefix_space,
        }

    @property
    def vocab_size(self) -> int:
        return len(self._tokens)

    @property
    def start_text(self) -> str:
        return self.end_of_text_name or "\n"

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text. Raise NotEncodableError for bytes that have none.

        With all 256 bytes among the tokens, as GPT-2 has them, that is no text but half a
        surrogate pair.
        """
        unknown = dict.fromkeys(c for c in text if not self._spells(c))
        if unknown:
            raise NotEncodableError(tuple(unknown))
        return list(self._encoder.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(self._spelling[i] for i in ids).decode("utf-8", "replace")

    def detokenizer(self) -> Detokenizer:
        return _ByteDetokenizer(self._spelling)

    def _spells(self, character: str) -> bool:
        try:
            data = character.encode()
        except UnicodeEncodeError:
            return False
        return len(self._known) == len(BYTES) or self._known.issuperset(data)


class _ByteDetokenizer:
    """The text of the bytes so far, less a character that has only begun."""

    def __init__(self, spelling: Sequence[bytes]) -> None:
        self._spelling = spelling
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(self._spelling[token])

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


def _check(
    ids: dict[str, int],
    tokens: Sequence[str],
    merges: Iterable[tuple[str, str]],
    named: Iterable[str],
) -> None:
    if not tokens or "" in ids:
        raise ValueError("a byte-pair encoding needs tokens, none of them empty")
    longest = max(tokens, key=len)
    if len(longest) > LONGEST:
        raise ValueError(f"the token {longest[:20]!r}... is longer than {LONGEST} symbols")
    if len(ids) != len(tokens):
        twice = next(token for i, token in enumerate(tokens) if ids[token] != i)
        raise ValueError(f"the token {twice!r} is listed twice")
    for token in named:
        if token not in ids:
            raise ValueError(f"{token!r} is no token")
    for left, right in merges:
        for token in (left, right, left + right):
            if token not in ids:
                raise ValueError(f"the merge of {left!r} and {right!r} needs the token {token!r}")


def _bytes_of(token: str) -> bytes:
    try:
        return bytes(BYTES[c] for c in token)
    except KeyError as exc:
        raise ValueError(
            f"the token {token!r} is not byte-level: {exc.args[0]!r} is none of GPT-2's 256 symbols"
        ) from None


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)
