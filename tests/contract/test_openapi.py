"""The OpenAPI document and the page made from it: complete, closed, and with nothing remote."""

from __future__ import annotations

import json

import pytest

from api.errors import CATALOGUE


@pytest.fixture
def document(bench):
    return bench.client.get("/openapi.json").get_json()


def test_every_reference_resolves(document):
    """A reader of the document finds every schema that it names."""

    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(document))
    assert found
    for reference in found:
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert node


def test_the_body_of_generate_is_the_contract(document):
    """The fields of contract section 5 with their bounds, and no other."""
    schema = document["components"]["schemas"]["GenerateRequest"]
    fields = schema["properties"]
    assert set(fields) == {
        *("prompt", "seed", "temperature", "num_chars", "top_k", "top_p", "stop", "stream")
    }
    assert schema["additionalProperties"] is False
    assert fields["prompt"]["maxLength"] == 4000
    assert (fields["temperature"]["minimum"], fields["temperature"]["maximum"]) == (0, 2)
    assert fields["temperature"]["default"] == 0.8
    assert (fields["num_chars"]["minimum"], fields["num_chars"]["default"]) == (1, 200)
    assert fields["seed"]["anyOf"][0]["maximum"] == 2**63 - 1


def test_the_parameters_that_an_operation_knows_are_in_the_document(document):
    """Any other is refused, so a reader has to find these."""

    def known(path: str, method: str) -> set[str]:
        parameters = document["paths"][path][method].get("parameters", [])
        return {one["name"] for one in parameters if one["in"] == "query"}

    assert known("/v1/usage", "get") == {"from", "to", "group_by"}
    assert known("/generate", "post") == {"dry_run"}
    assert known("/v1/completions", "post") == set()


def test_every_keyed_operation_names_its_refusals(document):
    """401, 403, 429, 503 and the shape of their body; a probe's 503 is an answer of its own."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            if "security" in operation:
                assert {"200", "401", "403", "429", "503"} <= set(operation["responses"])
            for status, answer in operation["responses"].items():
                if status != "200":
                    answers = (path, status) == ("/ready", "503")
                    kind = "application/json" if answers else "application/problem+json"
                    assert set(answer["content"]) == {kind}


def test_ready_says_no_as_the_document_says(bench, document):
    """Both answers of /ready are described, and the 503 has the body of the 200."""
    assert {"200", "503"} <= set(document["paths"]["/ready"]["get"]["responses"])
    bench.app.extensions["quillgate"].lifecycle.drain(0)
    refused = bench.client.get("/ready")
    assert refused.status_code == 503
    assert refused.mimetype == "application/json"
    assert refused.get_json()["ready"] is False


def test_a_public_operation_names_the_rate_of_an_address(bench, document, monkeypatch):
    """Where an address is counted, the document says so; where it is not, it does not."""
    counted: list[str] = []
    throttle = bench.app.extensions["quillgate"].throttle
    monkeypatch.setattr(throttle, "count_public_read", lambda _address: counted.append(path))
    named = []
    for path, operations in document["paths"].items():
        if "security" not in operations.get("get", {"security": []}):
            bench.client.get(path)
            named += [path] if "429" in operations["get"]["responses"] else []
    assert counted == named == ["/docs", "/openapi.json"]


def test_the_page_shows_it_all_and_loads_nothing(bench, document):
    """Each path and each code is on /docs, which may run no script and fetch nothing."""
    page = bench.client.get("/docs")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    for path in document["paths"]:
        assert path.replace("<", "&lt;") in page.text
    for code in CATALOGUE:
        assert f"id={code}" in page.text
    assert "<script" not in page.text
    assert "src=" not in page.text


def test_the_page_tells_types_and_bounds(bench):
    """What /generate takes, down to the bounds, can be read without the JSON document."""
    page = bench.client.get("/docs").text
    for told in (
        "<code>seed</code><td>integer, at least 0, at most 9223372036854775807 or null<td>",
        "<code>temperature</code><td>number, at least 0, at most 2<td>",
        "<code>top_p</code><td>number, above 0, at most 1 or null<td>",
        "<code>prompt</code><td>string, at most 4000 characters<td>",
        "<code>num_chars</code><td>integer, at least 1, at most 1000000000000<td>",
    ):
        assert told in page
    assert "<code>tenant</code><td>string<td><td>required" in page
    assert "default 0.8" in page
    assert "None" not in page


def test_the_document_is_plain_json(document):
    """It survives a round trip: nothing of Python leaked into it."""
    assert json.loads(json.dumps(document)) == document
    assert document["openapi"] == "3.1.0"
