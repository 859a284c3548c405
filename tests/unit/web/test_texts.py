"""A text as a file says what it takes to get it again, and nothing that is not known."""

from __future__ import annotations

import json

from web.texts import as_json

TEXT = {
    "settings": {"prompt": "Once", "seed": "s"},
    "model": "demo",
    "before": "",
    "text": " upon",
    "finish_reason": "length",
}


def test_a_text_that_was_stopped_names_no_model():
    """The API names the model at the end: of a text that has none it is null, not an empty name."""
    told = json.loads(as_json(TEXT))
    assert (told["model"], told["prompt"], told["continued_from"]) == ("demo", "Once", None)
    assert json.loads(as_json({**TEXT, "model": ""}))["model"] is None
