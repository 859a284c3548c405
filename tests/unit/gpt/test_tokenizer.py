"""The character tokenizer: what it encodes comes back, what it cannot encode it names."""

import pytest

from api.gpt.tokenizer import CharTokenizer, NotEncodableError


def test_text_survives_a_round_trip():
    """Every text over the vocabulary decodes to itself."""
    tokenizer = CharTokenizer.from_text("to be, or not\n")
    assert tokenizer.decode(tokenizer.encode("not to be\n")) == "not to be\n"
    assert CharTokenizer.from_json(tokenizer.to_json()).chars == tokenizer.chars


def test_unknown_characters_are_named_once_in_order():
    """A prompt that cannot be encoded is refused with exactly the characters at fault."""
    with pytest.raises(NotEncodableError) as refusal:
        CharTokenizer("ab").encode("a€b☃€")
    assert refusal.value.characters == ("€", "☃")


@pytest.mark.parametrize("chars", [[], ["ab"], ["a", "a"], [1], "nope"])
def test_a_malformed_vocabulary_is_refused(chars):
    """No tokenizer is built from a list that is not distinct single characters."""
    with pytest.raises(ValueError, match="character"):
        CharTokenizer.from_json({"type": "char", "chars": chars})
