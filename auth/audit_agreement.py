"""Does the data agree with the chain? Each record says what its change left of its document. Pure.

A document changed past the tools (by hand, by a restored backup, by whoever may write the secrets)
differs from what its last record left; the first such document is named with that record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from auth.documents import Document, body_digest

Record = Mapping[str, Any]


def disagreement(
    read: Callable[[str], Document | None], names: Iterable[str], last: Mapping[str, Record]
) -> str | None:
    """Return what does not agree first, or None.

    `read` returns None for what this identity may not read. `last` holds each document's last
    record in the chain. A change whose record has not reached the chain yet is in the document's
    outbox and counts as recorded.
    """
    for name in names:
        document = read(name)
        wrong = None if document is None else _wrong(name, document, last.get(name))
        if wrong is not None:
            return wrong
    return None


def _wrong(name: str, document: Document, record: Record | None) -> str | None:
    recorded = 0 if record is None else int(record["sequence"])
    for waiting in document.outbox:
        if waiting["sequence"] == recorded + 1:
            recorded, record = recorded + 1, waiting
    if document.sequence != recorded:
        return f"{name} has had {document.sequence} changes, the chain knows of {recorded}"
    if record is None:
        return None if _as_set_up(document.body) else f"{name} was filled past the tools"
    digest = record.get("document_digest")
    if digest is None or digest == body_digest(document.body):
        return None
    number = f"record {record['number']}" if "number" in record else "its waiting record"
    action, subject = record["action"], record["subject"]
    return f"{name} is not what {number} ({action} {subject}) left: it was changed past the tools"


def _as_set_up(body: Mapping[str, Any]) -> bool:
    """Say whether a document that nobody changed holds no key, no user and no tenant."""
    return not any(body.get(table) for table in ("keys", "users", "tenants"))
