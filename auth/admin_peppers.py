"""The admin's operations on peppers: begin a new one, see how far the keys are, end the old one.

No key is issued again. A secret moves to the new pepper when it is next used
(auth/write_back.py) or when its key is rotated. Both peppers count until the last secret has
moved, and the old one never past its deadline: a key that nobody used until then is refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from auth.admin_context import AdminContext, answered
from auth.changes import Entry
from auth.directory import Directory
from auth.errors import AdminRefusedError
from auth.keyring import KeyState
from auth.views import DAY_SECONDS

PEPPER_DEADLINE_SECONDS = 90 * DAY_SECONDS
MIN_PEPPER_DEADLINE_SECONDS = DAY_SECONDS  # a shorter one ends keys that are in daily use
MAX_PEPPER_DEADLINE_SECONDS = 400 * DAY_SECONDS


class PepperAdmin:
    """Answers hold names and counts of peppers, never a pepper; AdminRefusedError says why not."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    def status(self) -> dict[str, Any]:
        """Return every live pepper, and how many usable secrets are digested under it."""
        return self._view(self._context.directory())

    def rotate(self, *, deadline_seconds: int = PEPPER_DEADLINE_SECONDS) -> dict[str, Any]:
        """Digest secrets under a new pepper from now on; the one before ends at the deadline."""
        context = self._context
        if not MIN_PEPPER_DEADLINE_SECONDS <= deadline_seconds <= MAX_PEPPER_DEADLINE_SECONDS:
            raise AdminRefusedError("a pepper's deadline is from 1d to 400d")
        if len(context.directory().pepper_ids) > 1:
            self.retire()
        directory = context.directory()
        pepper_id = f"p{int(directory.pepper_id[1:]) + 1}"
        context.create_pepper(pepper_id)
        deadline = context.now() + deadline_seconds

        def edit(current: Directory) -> tuple[Directory, Entry]:
            if current.pepper_ids != directory.pepper_ids:
                raise AdminRefusedError("somebody else rotated the pepper just now")
            new = replace(
                current,
                pepper_id=pepper_id,
                pepper_ids=(current.pepper_id, pepper_id),
                pepper_deadlines={current.pepper_id: deadline},
            )
            return new, Entry("pepper.rotate", pepper_id, _said(current), _said(new))

        outcome = context.change_directory(edit)
        return answered(self._view(context.directory()), outcome)

    def retire(self, *, force: bool = False) -> dict[str, Any]:
        """End the pepper before the current one, if no usable secret is left under it.

        Forced, also if some are: they are refused from then on.
        """
        context = self._context
        directory = context.directory()
        old = [one for one in directory.pepper_ids if one != directory.pepper_id]
        if not old:
            raise AdminRefusedError("there is one pepper only: `pepper rotate` begins another")
        used = self._secrets(directory)
        left = sum(used.get(one, 0) for one in old if not self._over(directory, one))
        if left and not force:
            raise AdminRefusedError(
                f"{left} secrets are still under the pepper before: each moves when it is next "
                "used; `pepper retire --force` ends them now"
            )

        def edit(current: Directory) -> tuple[Directory, Entry]:
            if current.pepper_id != directory.pepper_id:
                raise AdminRefusedError("somebody else rotated the pepper just now")
            new = replace(current, pepper_ids=(current.pepper_id,), pepper_deadlines={})
            return new, Entry("pepper.retire", ",".join(old), _said(current), _said(new))

        outcome = context.change_directory(edit)
        for one in old:
            context.secrets.delete_secret(context.names.pepper(one))
        return answered(self._view(context.directory()), outcome)

    def _view(self, directory: Directory) -> dict[str, Any]:
        used = self._secrets(directory)
        return {
            "pepper_id": directory.pepper_id,
            "peppers": [
                {
                    "pepper": one,
                    "state": "current" if one == directory.pepper_id else "being replaced",
                    "secrets": used.get(one, 0),
                    "ends_at": directory.pepper_deadlines.get(one),
                }
                for one in directory.pepper_ids
            ],
        }

    def _over(self, directory: Directory, pepper_id: str) -> bool:
        ends_at = directory.pepper_deadlines.get(pepper_id)
        return ends_at is not None and self._context.now() >= ends_at

    def _secrets(self, directory: Directory) -> dict[str, int]:
        """Return how many secrets of keys that were not revoked there are under each pepper."""
        used: dict[str, int] = {}
        for record in self._context.records(directory):
            for secret in record.secrets if record.state is KeyState.ACTIVE else ():
                used[secret.pepper_id] = used.get(secret.pepper_id, 0) + 1
        return used


def _said(directory: Directory) -> dict[str, Any]:
    return {
        "peppers": list(directory.pepper_ids),
        "deadlines": dict(directory.pepper_deadlines),
    }
