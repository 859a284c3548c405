"""The audit chain: who changed what, when, from where, before and after; never a secret.

Each record holds the SHA-256 of itself and the hash of the one before, so a record that is
changed, dropped or moved breaks the chain at a place that `verify` names, and the digest of what
its change left of the document, so that the data can be held against it
(auth/audit_agreement.py). The head is one
document, changed by compare-and-swap; when it is full its records go into an archive version.
`watermarks` says for each document which of its changes the chain holds: a record is appended
once, however often its writer tried, and one that is missing is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import structlog

from auth.documents import Document, Documents, encode
from auth.errors import AuthError, MalformedDocumentError
from auth.fields import Fields
from auth.names import Names
from auth.secrets import SecretStore

START = "0" * 64  # the hash before the first record
FULL_BYTES = 40 * 1024  # of the encoded head; a payload is 64 KiB at most

log = structlog.get_logger()


class BrokenChainError(AuthError):
    """The chain does not hold; `str()` names the first record that is wrong."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and from where."""

    name: str  # "cli:ada", "key:<key id>"
    address: str


@dataclass(frozen=True, slots=True)
class Head:
    """The open end of the chain."""

    first: int  # the number of the first record in `records`
    previous: str  # the hash before it
    records: tuple[Mapping[str, Any], ...]
    archives: tuple[int, ...]  # versions of the archive, oldest first
    watermarks: Mapping[str, int]


class Verified(NamedTuple):
    """A chain that holds: how long it is, how it ends, and each document's last record."""

    records: int
    last_hash: str
    last: Mapping[str, Mapping[str, Any]]


EMPTY = Head(first=1, previous=START, records=(), archives=(), watermarks={})


class AuditLog:
    """Appends to the chain and reads it; safe to call from many threads and processes."""

    def __init__(self, secrets: SecretStore, documents: Documents, names: Names) -> None:
        self._secrets, self._documents, self._names = secrets, documents, names

    def create(self) -> None:
        """Begin the chain unless there is one."""
        self._secrets.ensure_secret(self._names.audit_archive)
        self._documents.create(self._names.audit, head_to_body(EMPTY))

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append the records that the chain does not hold yet, in order."""
        entries = list(records)
        archived: dict[int, int] = {}  # a clash must not archive the same segment again
        added: list[Mapping[str, Any]] = []

        def change(document: Document) -> Document:
            added.clear()
            head = head_from_body(document.body)
            new = [
                one for one in entries if one["sequence"] > head.watermarks.get(one["document"], 0)
            ]
            if not new:
                return document
            if len(encode(document)) > FULL_BYTES:
                head = self._archive(head, archived)
            for entry in new:
                head = _appended(head, entry)
                added.append(head.records[-1])
            return replace(document, body=head_to_body(head), may_fill=True)

        self._documents.update(self._names.audit, change)
        for record in added:
            log.info("audit", **{name: value for name, value in record.items() if name != "event"})

    def records(self) -> Iterator[Mapping[str, Any]]:
        """Return every record, oldest first. Raise MalformedDocumentError on a broken archive."""
        head = self._head()
        for version in head.archives:
            yield from head_from_body(
                self._documents.read(self._names.audit_archive, version).body
            ).records
        yield from head.records

    def watermarks(self) -> Mapping[str, int]:
        """Return for each document the number of its last change that the chain holds."""
        return self._head().watermarks

    def verify(self) -> Verified:
        """Read the whole chain. Raise BrokenChainError naming the first record that is wrong."""
        count, previous = 0, START
        last: dict[str, Mapping[str, Any]] = {}
        for record in self.records():
            count += 1
            if record.get("number") != count:
                raise BrokenChainError(f"record {count} is missing: found {record.get('number')}")
            if record.get("previous") != previous or record.get("hash") != _hash(record):
                raise BrokenChainError(f"record {count} was changed")
            previous = str(record["hash"])
            last[str(record["document"])] = record
        seen = {name: record["sequence"] for name, record in last.items()}
        if seen != dict(self.watermarks()):
            raise BrokenChainError(f"records are missing after record {count}")
        return Verified(count, previous, last)

    def _head(self) -> Head:
        return head_from_body(self._documents.read(self._names.audit).body)

    def _archive(self, head: Head, archived: dict[int, int]) -> Head:
        if head.first not in archived:
            data = encode(Document(head_to_body(head)))
            archived[head.first] = self._secrets.add_version(self._names.audit_archive, data)
        return replace(
            head,
            first=head.first + len(head.records),
            previous=str(head.records[-1]["hash"]),
            records=(),
            archives=(*head.archives, archived[head.first]),
        )


def _appended(head: Head, entry: Mapping[str, Any]) -> Head:
    number = head.first + len(head.records)
    previous = str(head.records[-1]["hash"]) if head.records else head.previous
    record = {**entry, "number": number, "previous": previous}
    record["hash"] = _hash(record)
    watermarks = {**head.watermarks, entry["document"]: entry["sequence"]}
    return replace(head, records=(*head.records, record), watermarks=watermarks)


def _hash(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the record's canonical JSON without its own hash."""
    value = {name: one for name, one in record.items() if name != "hash"}
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def head_to_body(head: Head) -> dict[str, Any]:
    """Return the head as a document's body."""
    return {
        "first": head.first,
        "previous": head.previous,
        "records": [dict(one) for one in head.records],
        "archives": list(head.archives),
        "watermarks": dict(head.watermarks),
    }


def head_from_body(body: Mapping[str, Any]) -> Head:
    """Return the head that a document's body holds. Raise MalformedDocumentError."""
    try:
        fields = Fields("audit", body, ("first", "previous", "records", "archives", "watermarks"))
        records = fields.items("records")
        if not all(isinstance(one, dict) for one in records):
            raise ValueError("audit.records is wrong")
        return Head(
            first=fields.integer("first"),
            previous=fields.text("previous"),
            records=tuple(records),
            archives=tuple(int(one) for one in fields.items("archives")),
            watermarks={name: int(one) for name, one in fields.table("watermarks").items()},
        )
    except (ValueError, TypeError) as exc:
        raise MalformedDocumentError(str(exc)) from exc
