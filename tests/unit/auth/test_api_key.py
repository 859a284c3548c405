"""The key's format is the published one, and its secret shows only where it is asked for."""

from __future__ import annotations

import hashlib
import hmac
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.api_key import digest, mask, mint, parse
from auth.errors import InvalidApiKeyError

PUBLISHED = re.compile(r"^qg_(live|test)_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$")
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("label", ["live", "test"])
def test_a_minted_key_has_the_published_shape_and_reads_back(label):
    """What is issued matches the contract's regular expression, and parses to the same key."""
    key = mint(label)
    assert PUBLISHED.match(key.reveal())
    assert parse(key.reveal()) == key
    assert key.label == label


def test_the_checksum_is_crc32_of_every_character_before_it():
    """A scanner that knows only the published rule computes the same six characters."""
    text = mint("live").reveal()
    number = 0
    for character in text[-6:]:
        number = number * 62 + BASE62.index(character)
    assert number == zlib.crc32(text[:-6].encode())


@given(st.integers(0, 76), st.sampled_from(BASE62))
def test_a_key_with_one_character_changed_is_refused(position, character):
    """CRC-32 finds every single substitution, so a mistyped key never reaches the keyring."""
    text = mint("live").reveal()
    changed = text[:position] + character + text[position + 1 :]
    if changed != text:
        with pytest.raises(InvalidApiKeyError):
            parse(changed)


@pytest.mark.parametrize(
    "text", ["", "qg_live_", "sk-abc", "ä" * 72, "qg_demo_" + "A" * 64, " " * 10_000]
)
def test_what_is_not_a_key_is_refused(text):
    """Any other text is one error, which does not repeat it."""
    with pytest.raises(InvalidApiKeyError) as caught:
        parse(text)
    assert not text or text not in str(caught.value)


def test_surrounding_space_and_line_ends_are_not_part_of_a_key():
    """The whole text must be the key: no prefix match, no forgiving of a line end."""
    text = mint("live").reveal()
    for near in (text + "\n", " " + text, text + "A", text[:-1]):
        with pytest.raises(InvalidApiKeyError):
            parse(near)


def test_a_rotated_secret_belongs_to_the_same_id():
    """The key id is stable: minting for an id changes the secret alone."""
    key = mint("live")
    again = mint("live", key.key_id)
    assert again.key_id == key.key_id
    assert again.secret != key.secret


def test_the_secret_is_not_in_the_text_of_the_object():
    """A key that is logged by accident does not give itself away."""
    key = mint("live")
    assert key.secret not in repr(key) + str(key)
    assert key.secret not in mask(key.key_id, key.label, key.tail)
    assert mask(key.key_id, key.label, key.tail).endswith(key.reveal()[-4:])


def test_the_digest_is_hmac_sha256_under_the_pepper():
    """What is stored is the standard construction, and another pepper gives another digest."""
    key = mint("live")
    expected = hmac.new(b"pepper", key.secret.encode(), hashlib.sha256).hexdigest()
    assert digest(key.secret, b"pepper") == expected
    assert digest(key.secret, b"other") != expected


def test_a_label_that_does_not_exist_is_refused():
    """A key is live or test, nothing else."""
    with pytest.raises(ValueError, match="demo"):
        mint("demo")
