"""What a visit leaves: the form's fields, its texts, and which are shown; found again by its login.

A reload, a lost connection and, with a folder, a restart of this process find it again. It ends
with its login: by logout at once, else when the login's time is over. It holds no key. Its file is
sealed with the login's id, which is in the person's cookie and nowhere on a disk: whoever has the
files cannot read them. Without a folder that can be written it is remembered in memory until the
process ends. Two tabs of one login share the texts; of their fields the last change counts.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken

from web.private_file import write_private
from web.sessions import Session
from web.texts import Text, with_text

REMEMBERED = 64  # visits held in memory, where they are not in files: the latest ones
MAX_CHARS = 200_000  # of all texts of a visit; beyond it the oldest go, the newest never
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit as it was last seen."""

    expires_at: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)  # see web.form_fields
    shown: list[str] = field(default_factory=list)  # ids of runs or texts, side by side
    texts: list[Text] = field(default_factory=list)  # the newest first


class Visits:
    """The visits of this process. All methods may be called from any thread."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        has_ended: Callable[[str], bool] = lambda _login_id: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder, self._has_ended, self._clock = folder, has_ended, clock
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Visit] = OrderedDict()
        with self._lock:
            self._drop_expired()

    def of(self, session: Session) -> Visit:
        """Return the visit of a login, an empty one if it left nothing yet."""
        with self._lock:
            return self._find(session.login_id) or Visit(session.expires_at)

    def keep(self, session: Session, fields: Mapping[str, Any], shown: list[str]) -> None:
        """Remember what stands in the form and what is shown, if that is another now."""
        with self._lock:
            visit = self._find(session.login_id)
            if visit is None:
                self._drop_expired()
                visit = Visit(session.expires_at)
            if (visit.fields, visit.shown) != (fields, shown):
                self._store(session.login_id, replace(visit, fields=fields, shown=list(shown)))

    def keep_draft(self, session: Session, name: str, value: str) -> None:
        """Remember what was typed into a field of a visit that has begun."""
        with self._lock:
            visit = self._find(session.login_id)
            if visit is not None and name in visit.fields:
                drafted = {**visit.fields, name: [value, visit.fields[name][1]]}
                self._store(session.login_id, replace(visit, fields=drafted))

    def add_text(self, login_id: str, text: Text) -> None:
        """Remember another text of a visit that has begun."""
        with self._lock:
            if visit := self._find(login_id):
                texts = _bounded(with_text(visit.texts, text))
                self._store(login_id, replace(visit, texts=texts))

    def forget_texts(self, session: Session) -> None:
        """Forget what was written, and show nothing."""
        with self._lock:
            if visit := self._find(session.login_id):
                self._store(session.login_id, replace(visit, texts=[], shown=[]))

    def move(self, login_id: str, session: Session) -> None:
        """Let a visit go on with another login of the same person."""
        with self._lock:
            visit = self._find(login_id)
            self._drop(login_id)
            if visit is not None:
                self._store(session.login_id, replace(visit, expires_at=session.expires_at))

    def end(self, login_id: str) -> None:
        """Forget a visit: its login has ended."""
        with self._lock:
            self._drop(login_id)

    def _find(self, login_id: str) -> Visit | None:
        held = self._held.get(login_id)
        if held is None and self._folder is not None:
            held = _read(self._folder, login_id)
        return held

    def _store(self, login_id: str, visit: Visit) -> None:
        if self._has_ended(login_id):  # a text that came after the logout
            return
        self._held.pop(login_id, None)
        if self._folder is not None and _write(self._folder, login_id, visit):
            return
        self._held[login_id] = visit
        while len(self._held) > REMEMBERED:
            self._held.popitem(last=False)

    def _drop(self, login_id: str) -> None:
        self._held.pop(login_id, None)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                _path(self._folder, login_id).unlink(missing_ok=True)

    def _drop_expired(self) -> None:
        now = self._clock()
        self._held = OrderedDict(
            (login_id, visit) for login_id, visit in self._held.items() if visit.expires_at > now
        )
        for path in self._folder.glob("*.visit") if self._folder is not None else ():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime <= now:
                    path.unlink()


def _path(folder: Path, login_id: str) -> Path:
    return folder / f"{_digest('name', login_id).hex()[:32]}.visit"


def _seal(login_id: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(_digest("seal", login_id)))


def _digest(purpose: str, login_id: str) -> bytes:
    return hashlib.sha256(f"quillgate visit {purpose} {login_id}".encode()).digest()


def _write(folder: Path, login_id: str, visit: Visit) -> bool:
    path = _path(folder, login_id)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sealed = _seal(login_id).encrypt(json.dumps(asdict(visit)).encode())
        write_private(path, sealed.decode())
        os.utime(path, (visit.expires_at, visit.expires_at))  # to be cleared away by, unopened
    except OSError as exc:
        _log.warning("a visit cannot be written (%s): it is kept in memory", type(exc).__name__)
        return False
    return True


def _read(folder: Path, login_id: str) -> Visit | None:
    """Return the visit in a login's file; None if there is none that can be read."""
    try:
        sealed = _path(folder, login_id).read_bytes()
        return Visit(**json.loads(_seal(login_id).decrypt(sealed)))
    except FileNotFoundError:
        return None
    except (OSError, InvalidToken, ValueError, TypeError) as exc:
        _log.warning("a visit cannot be read (%s): it begins anew", type(exc).__name__)
        return None


def _bounded(texts: list[Text]) -> list[Text]:
    """Return the newest texts that are not too much together; the newest in any case."""
    kept: list[Text] = []
    chars = 0
    for text in texts:
        chars += len(text["before"]) + len(text["text"])
        if kept and chars > MAX_CHARS:
            break
        kept.append(text)
    return kept
