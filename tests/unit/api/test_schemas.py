"""What a body may hold: strict types, bounds, and refusals that name the field."""

from __future__ import annotations

import json

import pytest

from api.errors import ProblemError
from api.schemas import GenerateRequest, parse


def refused(body: bytes) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        parse(GenerateRequest, body)
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"{} {}",
        b'{"seed": 1, "seed": 2}',
        b'{"temperature": NaN}',
        b'{"temperature": Infinity}',
        b'\xef\xbb\xbf{"seed": 1}',
        '{"prompt": "é"}'.encode("latin-1"),
        "{}".encode("utf-16"),
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"stop": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_what_is_not_one_json_object_is_malformed(body):
    """Everything that two parsers could read differently is refused as a whole."""
    assert refused(body).code == "malformed_json"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_chars", 0),
        ("num_chars", -1),
        ("num_chars", 1.5),
        ("num_chars", "10"),
        ("num_chars", True),
        ("num_chars", None),
        ("num_chars", [1]),
        ("seed", -1),
        ("seed", 2**63),
        ("seed", "1"),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "hot"),
        ("temperature", True),
        ("top_k", 0),
        ("top_p", 0),
        ("top_p", 1.1),
        ("prompt", 7),
        ("prompt", "x" * 4001),
        ("prompt", "\ud800"),
        ("stop", ""),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("stop", ["a", ""]),
        ("stop", {}),
        ("stream", 1),
        ("stream", "true"),
        ("prompts", "x"),
        ("api_key", "x"),
        ("plan", "partner"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_field(field, value):
    """One error per bad field, with a message; never the value itself."""
    error = refused(json.dumps({field: value}).encode())
    assert error.code == "invalid_request"
    assert [e.field for e in error.errors] == [field]
    assert all(e.message for e in error.errors)


def test_nothing_that_was_sent_is_repeated():
    """Neither a value nor more than a short piece of an unknown name comes back."""
    canary = "canary" * 50
    body = json.dumps({"prompt": [canary], "stop": [canary * 9], canary: canary}).encode()
    said = json.dumps(refused(body).document("id"))
    assert canary not in said
    assert len(said) < 2000


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("num_chars", 16.0, 16),
        ("num_chars", 10**9, 10**9),
        ("seed", 2**63 - 1, 2**63 - 1),
        ("seed", None, None),
        ("temperature", 0, 0.0),
        ("temperature", 2, 2.0),
        ("top_p", 1, 1.0),
        ("top_k", 40, 40),
        ("prompt", "", ""),
        ("prompt", "é" * 4000, "é" * 4000),
        ("stop", "\n", "\n"),
        ("stop", ["a", "b"], ["a", "b"]),
        ("stream", True, True),
    ],
)
def test_every_documented_value_is_accepted(field, value, read):
    """The bounds of contract section 5 are inside; 16.0 is an integer as JSON Schema has it."""
    assert getattr(parse(GenerateRequest, json.dumps({field: value}).encode()), field) == read
