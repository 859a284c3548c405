"""The admin's operations on limits: a key's own in the place of its plan's, a tenant's caps.

What was used stays used. A value that is no limit is refused; nothing can be made unlimited but a
cap, by taking it away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from auth.admin_context import AdminContext, answered
from auth.admin_key_records import KeyRecords
from auth.changes import Entry
from auth.directory import Directory
from auth.errors import AdminRefusedError
from auth.keyring import KeyRecord, KeyState
from auth.plans import CAPS, LIMITS, Caps, Overrides, checked_limits
from auth.views import tenant_view

Change = Mapping[str, int | None]  # a limit's name and its new value; None takes it away


class LimitsAdmin:
    """Each operation returns the key or tenant as it then is; AdminRefusedError says why not."""

    def __init__(self, context: AdminContext) -> None:
        self._context, self._records = context, KeyRecords(context)

    def set_key_limits(self, key_id: str, change: Change) -> dict[str, Any]:
        """Give a key limits of its own; one that is None is the plan's again."""

        def changed(record: KeyRecord) -> KeyRecord:
            if record.state is KeyState.REVOKED:
                raise AdminRefusedError(f"key {key_id} is revoked")
            self._records.check_not_marked(record)
            return replace(record, limits=_changed(dict(record.limits), change, LIMITS))

        return self._records.change(key_id, "key.set-limits", changed)

    def set_caps(self, tenant: str, change: Change) -> dict[str, Any]:
        """Cap what all keys of a tenant use together; one that is None ends.

        Caps count while there are any: what was used before the first was set is not in them.
        """
        context = self._context
        view: dict[str, Any] = {}

        def edit(directory: Directory) -> tuple[Directory, Entry]:
            before = context.tenant(directory, tenant)
            held = {} if before.caps is None else before.caps.given
            caps = dict(_changed(held, change, CAPS))
            after = replace(before, caps=Caps(**caps) if caps else None)
            view.update(tenant_view(after))
            entry = Entry("tenant.set-caps", tenant, tenant_view(before), tenant_view(after))
            return directory.with_tenant(after), entry

        return answered(view, context.change_directory(edit))


def _changed(held: Mapping[str, int], change: Change, known: tuple[str, ...]) -> Overrides:
    if not change:
        raise AdminRefusedError("nothing to set: name a limit and its value")
    given = {name: value for name, value in change.items() if value is not None}
    try:
        checked_limits("limits", dict.fromkeys(change, 1), known)  # the names, also of those ended
        checked_limits("limits", given, known)
    except ValueError as exc:
        raise AdminRefusedError(str(exc)) from exc
    kept = {name: value for name, value in held.items() if name not in change}
    return checked_limits("limits", kept | given, known)
