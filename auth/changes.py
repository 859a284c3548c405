"""Every change to a document with its audit record, in one compare-and-swap; then it is told.

The order is: the change and its record (in the document's outbox) become current; Redis is told;
the record moves into the audit chain. A process that dies in between loses neither: the next
change of the document appends what is left in its outbox first. Redis being away does not stop a
change: `Outcome.propagated` says so, and instances find it by the alias, because the writer tries
for longer than an instance trusts Redis without a word from it (GAP_SECONDS). Nor does the audit
chain being unreachable undo a change: its record waits in the outbox, and `recorded` says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from auth.audit import Actor, AuditLog
from auth.documents import Document, Documents, body_digest
from auth.errors import AuthError
from auth.keyring_refresh import GAP_SECONDS
from auth.names import Names
from auth.propagation import Propagation, PropagationUnavailableError
from auth.secrets import SecretStoreError

TELL_SECONDS = GAP_SECONDS + 1.0
TELL_PAUSE_SECONDS = 0.25

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Entry:
    """What the audit chain says of a change; never a secret."""

    action: str  # "key.issue"
    subject: str  # the key id, the tenant or the user
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    note: str | None = None
    takes_away: bool = False  # somebody's access: such a change is not refused by a full document


# A document's new body, and what is to be said of the change; no entry: it stays as it is.
Decision = tuple[Mapping[str, Any], Sequence[Entry]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a change went."""

    propagated: bool  # Redis was told
    recorded: bool  # the audit chain holds it


class Changes:
    """Makes audited changes; safe to call from many threads and processes."""

    def __init__(
        self,
        documents: Documents,
        audit: AuditLog,
        propagation: Propagation | None,
        names: Names,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._documents, self._audit, self._sleep = documents, audit, sleep
        self._propagation, self._names, self._clock = propagation, names, clock

    def apply(
        self,
        name: str,
        actor: Actor,
        decide: Callable[[Mapping[str, Any]], Decision],
    ) -> Outcome:
        """Replace a document's body by what `decide` returns for the current one.

        `decide` may be called several times; what it raises ends the change with nothing changed,
        and so does an answer without entries. Several entries are several records of one change.
        Raise SecretStoreError, MalformedDocumentError or BusyError.
        """
        propagated = True

        def change(document: Document) -> Document:
            self._audit.append(document.outbox)
            body, entries = decide(document.body)
            if not entries:
                return document
            digest, sequence = body_digest(body), document.sequence
            outbox = tuple(
                self._record(name, sequence + place, actor, entry, digest)
                for place, entry in enumerate(entries, start=1)
            )
            return replace(
                document,
                body=body,
                sequence=sequence + len(outbox),
                outbox=outbox,
                may_fill=all(entry.takes_away for entry in entries),
            )

        def published(document: Document) -> None:
            nonlocal propagated
            propagated = self._publish({name: document.version})

        written = self._documents.update(name, change, published)
        try:
            self._audit.append(written.outbox)
        except (SecretStoreError, AuthError) as exc:
            log.warning("audit.pending", document=name, sequence=written.sequence, error=str(exc))
            return Outcome(propagated, recorded=False)
        return Outcome(propagated, recorded=True)

    def create(self, name: str, body: Mapping[str, Any]) -> bool:
        """Write a document's first version unless it exists; say whether it was written."""
        version = self._documents.create(name, body)
        if version is not None:
            self._publish({name: version})
        return version is not None

    def _publish(self, versions: Mapping[str, int]) -> bool:
        if self._propagation is None:
            return False
        deadline = self._clock() + TELL_SECONDS
        while True:
            try:
                self._propagation.publish(self._names.keyring, versions)
            except PropagationUnavailableError:
                if self._clock() >= deadline:
                    return False
                self._sleep(TELL_PAUSE_SECONDS)
            else:
                return True

    def _record(
        self, name: str, sequence: int, actor: Actor, entry: Entry, digest: str
    ) -> dict[str, Any]:
        return {
            "at": int(self._clock()),
            "actor": actor.name,
            "address": actor.address,
            "action": entry.action,
            "subject": entry.subject,
            "before": None if entry.before is None else dict(entry.before),
            "after": None if entry.after is None else dict(entry.after),
            "note": entry.note,
            "document": name,
            "sequence": sequence,
            "document_digest": digest,
        }
