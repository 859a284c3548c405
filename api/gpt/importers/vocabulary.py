"""The vocabularies of imported models: character lists, and GPT-2's byte-level BPE in its files.

Only the tokens and their merges are taken from a `tokenizer.json`. A setting that would change
which tokens a text has, and that this encoding does not know, is refused by its name: dropping it
would give another text to the model than the one it learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from api.gpt.bpe import END_OF_TEXT, BpeTokenizer
from api.gpt.importers.files import ImportRefusedError, read_bytes, read_json, read_text
from api.gpt.importers.plain_pickle import PlainPickleError, loads
from api.gpt.shown import shown
from api.gpt.tokenizer import CharTokenizer

# Settings of a tokenizer.json that mean nothing here when they are this or absent.
_PLAIN_MODEL = {
    "dropout": (None, 0, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False),
}


def chars_of_meta(path: Path) -> CharTokenizer:
    """Read nanoGPT's `meta.pkl`: its `itos`, a character for each token."""
    try:
        meta = loads(read_bytes(path))
    except PlainPickleError as exc:
        raise ImportRefusedError(f"{path}: {exc}") from exc
    itos = meta.get("itos") if isinstance(meta, dict) else None
    if isinstance(itos, list):
        itos = dict(enumerate(itos))
    if not isinstance(itos, dict) or not itos:
        raise ImportRefusedError(f'{path}: has no "itos", a character for each token')
    if any(type(key) is not int for key in itos) or set(itos) != set(range(len(itos))):
        raise ImportRefusedError(f"{path}: itos must number its characters 0 to {len(itos) - 1}")
    try:
        return CharTokenizer([itos[i] for i in range(len(itos))])
    except ValueError as exc:
        raise ImportRefusedError(f"{path}: itos: {exc}") from exc


def chars_of(file_or_string: str) -> CharTokenizer:
    """Read a character list: a text's characters in the order of code points, as lectures do.

    A list whose characters are all different is taken in the order in which it stands.
    """
    text = read_text(Path(file_or_string)) if is_file(file_or_string) else file_or_string
    distinct = len(set(text)) == len(text)
    try:
        return CharTokenizer(list(text) if distinct else sorted(set(text)))
    except ValueError as exc:
        raise ImportRefusedError(f"--chars: {exc}") from exc


def is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # it cannot be a path
        return False


def bpe_of(path: Path, end_of_text: int | None = None) -> BpeTokenizer:
    """Read a tokenizer: `tokenizer.json`, or `vocab.json` with `merges.txt` beside it.

    `path` is either file, or a directory that holds them. `end_of_text` is the number of the token
    that ends a text; None: GPT-2's, by its name.
    """
    if path.is_dir():
        names = ("tokenizer.json", "vocab.json")
        found = next((path / name for name in names if (path / name).is_file()), None)
        if found is None:
            raise ImportRefusedError(
                f"{path}: has no tokenizer.json, and no vocab.json with merges.txt; "
                "give the tokenizer's file with --tokenizer"
            )
        path = found
    document = read_json(path)
    try:
        if not isinstance(document.get("model", 0), int):  # a number: of a token of that name
            return _of_tokenizer_json(document, end_of_text)
        return _of_vocab(document, read_text(path.with_name("merges.txt")), end_of_text)
    except ValueError as exc:
        raise ImportRefusedError(f"{path}: {exc}") from exc


def _of_tokenizer_json(document: Mapping[str, Any], end_of_text: int | None) -> BpeTokenizer:
    model, splitter = document["model"], document.get("pre_tokenizer")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise ValueError("only byte-level BPE can be served")
    if not isinstance(splitter, dict) or _kind(splitter) != "ByteLevel":
        raise ValueError(f"pre_tokenizer {_kind(splitter)}: only GPT-2's ByteLevel can be served")
    _refuse_unusual(document, model, splitter)
    added = _added(document)
    vocab = _mapping(model.get("vocab"))
    for content, number in added.items():
        if vocab.setdefault(content, number) != number:
            raise ValueError(f"added token {content!r} has two numbers")
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise ValueError("model.merges must be a list")
    return _tokenizer(
        vocab,
        [pair.split(" ") if isinstance(pair, str) else pair for pair in merges],
        list(added),
        end_of_text,
        add_prefix_space=bool(splitter.get("add_prefix_space", True)),
    )


def _refuse_unusual(
    document: Mapping[str, Any], model: Mapping[str, Any], splitter: Mapping[str, Any]
) -> None:
    for name, plain in _PLAIN_MODEL.items():
        if model.get(name) not in plain:
            raise ValueError(f"model.{name} {model[name]!r} is not what GPT-2's encoding does")
    if not splitter.get("use_regex", True):
        raise ValueError("pre_tokenizer without use_regex: GPT-2's encoding splits words first")
    if document.get("normalizer") is not None:
        raise ValueError(f"normalizer {_kind(document['normalizer'])}: GPT-2's encoding has none")
    if _adds_tokens(document.get("post_processor")):
        raise ValueError(
            f"post_processor {_kind(document['post_processor'])}: GPT-2's encoding adds no tokens"
        )


def _adds_tokens(processor: Any) -> bool:
    if _kind(processor) != "TemplateProcessing":
        return _kind(processor) not in ("None", "ByteLevel")
    # transformers 5 writes a template for every tokenizer: mostly of the text alone.
    template = processor.get("single")
    return not (
        isinstance(template, list) and [_only_key(part) for part in template] == ["Sequence"]
    )


def _added(document: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens that are whole wherever they stand, with their numbers."""
    tokens = document.get("added_tokens") or []
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise ValueError("added_tokens must be a list of objects")
    for token in tokens:
        if not isinstance(token.get("content"), str):
            raise ValueError("an added token needs a content")
        for flag in ("single_word", "lstrip", "rstrip"):
            if token.get(flag):
                raise ValueError(f"added token {token['content']!r}: {flag} cannot be served")
    return _mapping({token["content"]: token.get("id") for token in tokens})


def _of_vocab(vocab: Mapping[str, Any], merges: str, end_of_text: int | None) -> BpeTokenizer:
    lines = [line.rstrip("\r") for line in merges.split("\n")]
    if lines[0].startswith("#version"):
        lines = lines[1:]
    pairs = [line.split(" ") for line in lines if line]
    return _tokenizer(
        _mapping(vocab), pairs, [END_OF_TEXT] if END_OF_TEXT in vocab else [], end_of_text
    )


def _tokenizer(
    vocab: Mapping[str, int],
    merges: list[Any],
    added: list[str],
    end_of_text: int | None,
    *,
    add_prefix_space: bool = False,
) -> BpeTokenizer:
    tokens = sorted(vocab, key=lambda token: vocab[token])
    for expected, token in enumerate(tokens):
        if vocab[token] != expected:
            raise ValueError(f"tokens must be numbered without gaps: {expected} is {token!r}'s")
    for pair in merges:
        if not isinstance(pair, list) or [type(part) for part in pair] != [str, str]:
            raise ValueError(f"the merge {pair!r} is not of two tokens")
    if end_of_text is not None and not 0 <= end_of_text < len(tokens):
        raise ValueError(f"the end-of-text token {end_of_text} is beyond its {len(tokens)} tokens")
    named = END_OF_TEXT if END_OF_TEXT in vocab else None
    return BpeTokenizer(
        tokens,
        [(left, right) for left, right in merges],
        added=added,
        end_of_text=named if end_of_text is None else tokens[end_of_text],
        add_prefix_space=add_prefix_space,
    )


def _mapping(vocab: Any) -> dict[str, int]:
    if not isinstance(vocab, dict) or any(
        not isinstance(number, int) or isinstance(number, bool) for number in vocab.values()
    ):
        raise ValueError("the vocabulary must give every token a number")
    return dict(vocab)


def _only_key(part: Any) -> Any:
    return next(iter(part)) if isinstance(part, dict) and len(part) == 1 else None


def _kind(part: Any) -> str:
    return shown(part.get("type") if isinstance(part, dict) else part)
