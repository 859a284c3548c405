"""Documents are read whole or not at all, and of racing writers none loses a change."""

from __future__ import annotations

import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.documents import Document, Documents, decode, encode
from auth.errors import MalformedDocumentError
from auth.secrets import SecretNotFoundError, SecretStoreUnavailableError, VersionState
from auth.secrets.file import FileSecretStore

BODIES = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=20), max_size=5)


@pytest.fixture
def store(tmp_path):
    return FileSecretStore(tmp_path / "secrets")


def numbers(store) -> list[int]:
    """Return the document's list of numbers."""
    return Documents(store).read("list").body["numbers"]


def appending(number: int):
    """Return a change that adds a number to the document's list."""

    def change(document: Document) -> Document:
        return replace(document, body={"numbers": [*document.body["numbers"], number]})

    return change


@given(BODIES, st.integers(0, 10**6))
def test_what_is_encoded_is_decoded(body, sequence):
    """Nothing of a document is lost on the way through the store."""
    document = Document(body, 3, sequence, ({"at": 1},))
    assert decode("name", encode(document), 3) == document


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        zlib.compress(b"[]"),
        zlib.compress(b"not json"),
        zlib.compress(b"[" * 100_000),
        zlib.compress(b'{"format":2,"sequence":0,"outbox":[],"body":{}}'),
        zlib.compress(b'{"format":1,"sequence":-1,"outbox":[],"body":{}}'),
        zlib.compress(b'{"format":1,"sequence":true,"outbox":[],"body":{}}'),
        zlib.compress(b'{"format":1,"sequence":0,"outbox":[1],"body":{}}'),
        zlib.compress(b'{"format":1,"sequence":0,"outbox":[],"body":{},"more":1}'),
        encode(Document({"a": 1}))[:-1],
        encode(Document({"a": 1})) + b"x",
        zlib.compress(json.dumps({"format": 1, "body": "x" * 5_000_000}).encode()),
    ],
)
def test_what_is_not_a_document_is_refused(data):
    """Cut short, too long, of another format or no JSON at all: one error that names the secret."""
    with pytest.raises(MalformedDocumentError, match="ledger version 7"):
        decode("ledger", data, 7)


def test_fifty_racing_writers_lose_nothing(store):
    """Fifty changes made at once are fifty changes, in some order."""
    Documents(store).create("list", {"numbers": []})
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda n: Documents(store).update("list", appending(n)), range(50)))
    assert sorted(numbers(store)) == list(range(50))


def test_superseded_versions_are_destroyed(store):
    """After a change one version is left: the others would be billed."""
    Documents(store).create("list", {"numbers": []})
    for number in range(3):
        written = Documents(store).update("list", appending(number))
    assert store.list_versions("list") == [(written.version, VersionState.ENABLED)]


def test_a_change_that_changes_nothing_writes_nothing(store):
    """Returning what was given costs no version."""
    Documents(store).create("list", {"numbers": []})
    before = Documents(store).read("list").version
    Documents(store).update("list", lambda document: document)
    assert Documents(store).read("list").version == before


def test_what_a_change_raises_ends_it(store):
    """A refusal inside a change leaves the document as it was, with no version behind."""
    Documents(store).create("list", {"numbers": [1]})

    def refuse(_: Document) -> Document:
        raise LookupError

    with pytest.raises(LookupError):
        Documents(store).update("list", refuse)
    assert numbers(store) == [1]
    assert len(store.list_versions("list")) == 1


def test_creating_again_keeps_what_is_there(store):
    """The set-up may run twice."""
    assert Documents(store).create("list", {"numbers": [1]}) is not None
    assert Documents(store).create("list", {"numbers": []}) is None
    assert numbers(store) == [1]


def test_the_new_version_is_told_before_the_old_one_goes(store):
    """Whoever learns of the new version can still read the old one until then."""
    Documents(store).create("list", {"numbers": []})
    old = Documents(store).read("list").version
    told = []

    def published(document: Document) -> None:
        told.append((document.version, store.access("list", old).number))

    written = Documents(store).update("list", appending(1), published)
    assert told == [(written.version, old)]
    with pytest.raises(SecretNotFoundError):
        store.access("list", old)


def test_a_document_that_was_never_written_is_said_to_be_missing(store):
    """Neither reading nor changing invents one."""
    with pytest.raises(SecretNotFoundError):
        Documents(store).update("list", appending(1))
    assert not Documents(store).exists("list")


@pytest.mark.parametrize("applied", [True, False])
def test_a_move_whose_answer_was_lost_is_looked_into(store, applied):
    """If it did happen the change stands; if not, the error says so and nothing changed."""
    Documents(store).create("list", {"numbers": []})
    move = store.move_alias

    def lost(name, alias, number, etag):
        if applied:
            move(name, alias, number, etag)
        raise SecretStoreUnavailableError("no answer")

    store.move_alias = lost
    if applied:
        Documents(store).update("list", appending(1))
    else:
        with pytest.raises(SecretStoreUnavailableError):
            Documents(store).update("list", appending(1))
    assert numbers(store) == ([1] if applied else [])


def test_a_damaged_version_is_named_with_the_way_back():
    """What an operator reads at the worst moment says which version, and what to do."""
    with pytest.raises(
        MalformedDocumentError, match=r"qg-x version 7 is damaged .* alias `current`"
    ):
        decode("qg-x", b"not compressed", 7)
