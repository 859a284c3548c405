"""Byte-level BPE: the tokens are those of `tokenizers`, and no half character is ever shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from api.gpt import tokenizer as tokenizers
from api.gpt.bpe import BYTES, END_OF_TEXT, BpeTokenizer
from api.gpt.importers.vocabulary import bpe_of
from api.gpt.request import NotEncodableError
from tests.support.bpe import TEXT

SYMBOL = {byte: symbol for symbol, byte in BYTES.items()}
EVERY_BYTE = BpeTokenizer([SYMBOL[byte] for byte in range(256)], [])


@pytest.fixture(scope="module")
def pair(stranger_tokenizer, tmp_path_factory):
    """Our tokenizer and the one it was read from."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(json.dumps(stranger_tokenizer))
    return bpe_of(path), Tokenizer.from_file(str(path))


@given(text=st.text(max_size=40))
def test_every_text_has_the_tokens_of_its_own_library(pair, text):
    """Whatever is written, its tokens are those of the source, and they spell it again."""
    ours, theirs = pair
    ids = ours.encode(text)
    assert ids == theirs.encode(text).ids
    assert ours.decode(ids) == text


def test_ordinary_text_has_the_tokens_of_its_own_library(pair):
    """The same for text with long merges, and with the end-of-text token in the middle."""
    ours, theirs = pair
    for text in [*TEXT[:3], "".join(TEXT), f"a{END_OF_TEXT}b {END_OF_TEXT}", " " * 4000]:
        assert ours.encode(text) == theirs.encode(text).ids
    assert ours.encode(f"a{END_OF_TEXT}").count(ours.end_of_text) == 1


@given(data=st.binary(max_size=40))
def test_characters_come_out_whole_and_at_once(data):
    """Byte by byte, text is the decoding of all bytes; a character comes with its last byte."""
    detokenizer, text = EVERY_BYTE.detokenizer(), ""
    for i, byte in enumerate(data):
        text += detokenizer.push(byte)
        complete = data[: i + 1].decode("utf-8", "replace")
        assert complete.startswith(text)
        if not complete.endswith("\ufffd"):
            assert text == complete
    assert text + detokenizer.flush() == data.decode("utf-8", "replace")


def test_a_character_of_four_tokens_is_one_piece():
    """An emoji whose bytes are tokens of their own comes with the last of them."""
    detokenizer = EVERY_BYTE.detokenizer()
    assert [detokenizer.push(byte) for byte in "😀!".encode()] == ["", "", "", "😀", "!"]
    assert detokenizer.flush() == ""


def test_bytes_without_a_token_are_refused_by_their_characters():
    """A vocabulary that lacks a byte names the characters that need it, instead of losing them."""
    ascii_only = BpeTokenizer([SYMBOL[byte] for byte in range(128)], [])
    with pytest.raises(NotEncodableError) as refusal:
        ascii_only.encode("naïve ☃ï")
    assert refusal.value.characters == ("ï", "☃")
    with pytest.raises(NotEncodableError):
        EVERY_BYTE.encode("half \ud800")


def test_what_is_written_is_what_is_read(pair):
    """A tokenizer comes back from its JSON with the same tokens for the same text."""
    ours, _ = pair
    again = tokenizers.from_json(json.loads(json.dumps(ours.to_json())))
    assert again.to_json() == ours.to_json()
    assert again.encode(TEXT[2]) == ours.encode(TEXT[2])
    assert again.end_of_text == ours.end_of_text


GOOD = {
    "type": "bpe",
    "tokens": ["a", "b", "ab", END_OF_TEXT],
    "merges": [["a", "b"]],
    "added": [END_OF_TEXT],
    "end_of_text": END_OF_TEXT,
    "add_prefix_space": False,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": []}, "needs tokens"),
        ({"tokens": ["a", "b", "ab", "", END_OF_TEXT]}, "none of them empty"),
        ({"tokens": ["a", "b", "ab", "a", END_OF_TEXT]}, "'a' is listed twice"),
        ({"tokens": ["a", "b", "ab", "a" * 1025, END_OF_TEXT]}, "longer than 1024 symbols"),
        ({"tokens": "ab"}, '"tokens", a list of strings'),
        ({"tokens": ["a", "b", "ab", "é漢", END_OF_TEXT]}, "not byte-level: '漢'"),
        ({"tokens": ["a", "b", "ab"]}, "'<|endoftext|>' is no token"),
        ({"merges": [["a", "a"]]}, "needs the token 'aa'"),
        ({"merges": [["a"]]}, "a list of pairs"),
        ({"merges": {}}, "a list of pairs"),
        ({"added": [3]}, '"added", a list of strings'),
        ({"end_of_text": 3}, "string or null"),
        ({"add_prefix_space": 1}, "true or false"),
        ({"type": "wordpiece"}, '"char" or "bpe"'),
    ],
)
def test_what_is_no_byte_level_encoding_is_refused(change, message):
    """Each defect of a tokenizer.json is refused with a line that names it."""
    assert tokenizers.from_json(GOOD).encode("ab") == [2]
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        tokenizers.from_json({**GOOD, **change})
