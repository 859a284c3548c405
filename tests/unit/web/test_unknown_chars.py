"""What the model has no token for is shown as people know it, and there is a way out of it."""

import pytest

from api.gpt.request import NotEncodableError
from web.unknown_chars import mended, offer, told_unknown, unknown_in

UNKNOWN = '\u2019\u201c\u00e9\u05e9\U0001fab6\t\u00a0\u200d\ufe0f"\\'


def _detail(chars):
    return f"{NotEncodableError(tuple(chars))}."


def test_the_apis_sentence_holds_characters_and_escapes_what_nobody_sees():
    """No backslash stands for a character that can be shown; none that cannot is sent as it is."""
    detail = _detail("\u2019\u05e9\U0001fab6\t\u200d\u202e")
    assert detail == (
        'the model has no token for "\u2019", "\u05e9", "\U0001fab6", "\\t", "\\u200d", "\\u202e".'
    )


def test_every_character_is_read_from_the_apis_sentence():
    """Whichever they are, also those that stand there as escapes, as another API writes all."""
    assert unknown_in(_detail(UNKNOWN)) == list(UNKNOWN)
    assert unknown_in(r'no token for "\u2019", "\ud83e\udeb6".') == ["\u2019", "\U0001fab6"]
    assert unknown_in("something else is wrong.") == []


def test_they_are_told_as_they_look_and_by_name_where_they_look_like_nothing():
    """Nobody has to read an escape, and what was not named is counted."""
    assert told_unknown(_detail("\u2019\u201c")) == (
        "The model does not know these characters: \u2019 \u201c."
    )
    assert told_unknown(_detail("\t\u200d\u2603")) == (
        "The model does not know these characters: \u2603, tab, joiner."
    )
    assert told_unknown(_detail("\u00a0")) == (
        "The model does not know this character: no-break space."
    )
    many = told_unknown(_detail(map(chr, range(0x4E00, 0x4E00 + 45))))
    assert many.endswith(", and 5 more.")


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("\u201cit\u2019s\u201d \u2013 so\u2014on\u2026", '"it\'s" - so-on...'),
        ("a\tb\u00a0c", "a b c"),
        ("caf\u00e9 \ufb01ne", "cafe fine"),
        ("\u05e9\u05dc\U0001fab6\u200d\ufe0f!", "!"),
    ],
)
def test_a_prompt_is_mended_by_what_looks_alike(prompt, plain):
    """The usual typographic characters become what a keyboard has; the rest is left out."""
    unknown = {char for char in prompt if not char.isascii() or char == "\t"}
    assert mended(prompt, unknown) == plain


def test_nothing_is_replaced_by_what_the_model_does_not_know_either():
    """A model without double quotes gets single ones; known characters stay as they are."""
    assert mended("\u201cno\u201d", {"\u201c", "\u201d", '"'}) == "'no'"
    assert mended("\u201cno\u2019", {"\u201c"}) == '"no\u2019'


def test_the_button_says_what_it_does():
    """It is not there where it would do nothing."""
    unknown = {"\u2019", "\u2603"}
    assert offer("it\u2019s", unknown) == "Replace by plain ones"
    assert offer("\u2603", unknown) == "Remove them"
    assert offer("\u2603\u2019", unknown) == "Replace or remove them"
    assert offer("plain", unknown) == ""
