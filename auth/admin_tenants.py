"""The admin's operations on tenants and on peppers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from auth.admin_context import AdminContext, answered, check_name
from auth.changes import Entry
from auth.directory import Directory, Tenant, TenantState
from auth.errors import AdminRefusedError
from auth.keyring import KeyState
from auth.views import tenant_view


class TenantAdmin:
    """Each operation returns the tenant as it then is; AdminRefusedError says why not."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    def add(self, name: str, plan: str) -> dict[str, Any]:
        """Add a tenant; the first one sets up the store."""
        context = self._context
        check_name("tenant", name)
        context.check_plan(plan)
        context.set_up()
        tenant = Tenant(name, plan, context.now())

        def edit(directory: Directory) -> tuple[Directory, Entry]:
            if name in directory.tenants:
                raise AdminRefusedError(f"there is a tenant {name} already")
            entry = Entry("tenant.add", name, None, tenant_view(tenant))
            return directory.with_tenant(tenant), entry

        return answered(tenant_view(tenant), context.change_directory(edit))

    def list(self) -> list[dict[str, Any]]:
        """Return every tenant by name."""
        tenants = self._context.directory().tenants
        return [tenant_view(tenants[name]) for name in sorted(tenants)]

    def show(self, name: str) -> dict[str, Any]:
        """Return one tenant."""
        return tenant_view(self._context.tenant(self._context.directory(), name))

    def set_plan(self, name: str, plan: str) -> dict[str, Any]:
        """Give the tenant's keys that have no plan of their own another one; usage stays."""
        self._context.check_plan(plan)
        return self._change(name, "tenant.set-plan", plan=plan)

    def disable(self, name: str) -> dict[str, Any]:
        """Refuse every key of the tenant."""
        return self._change(name, "tenant.disable", state=TenantState.DISABLED)

    def enable(self, name: str) -> dict[str, Any]:
        """Accept the tenant's keys again."""
        return self._change(name, "tenant.enable", state=TenantState.ACTIVE)

    def rotate_pepper(self) -> dict[str, Any]:
        """Digest new secrets under a new pepper; drop older ones that no secret is left under.

        Keys are not issued again for it: each moves with its next rotation.
        """
        context = self._context
        used = self._peppers_in_use()
        directory = context.directory()
        kept = tuple(
            one for one in directory.pepper_ids if one in used or one == directory.pepper_id
        )
        if len(kept) > 1:
            raise AdminRefusedError(
                f"secrets are still digested under the pepper before: {used} by pepper"
            )
        pepper_id = f"p{int(directory.pepper_id[1:]) + 1}"
        context.create_pepper(pepper_id)

        def edit(current: Directory) -> tuple[Directory, Entry]:
            if current.pepper_ids != directory.pepper_ids:
                raise AdminRefusedError("somebody else rotated the pepper just now")
            new = replace(current, pepper_id=pepper_id, pepper_ids=(*kept, pepper_id))
            before, after = list(current.pepper_ids), list(new.pepper_ids)
            entry = Entry("pepper.rotate", pepper_id, {"peppers": before}, {"peppers": after})
            return new, entry

        outcome = context.change_directory(edit)
        for one in set(directory.pepper_ids) - set(kept):
            context.secrets.delete_secret(context.names.pepper(one))
        view = {"pepper_id": pepper_id, "pepper_ids": [*kept, pepper_id], "secrets": used}
        return answered(view, outcome)

    def _peppers_in_use(self) -> dict[str, int]:
        """Return how many secrets of keys that were not revoked there are under each pepper."""
        used: dict[str, int] = {}
        for record in self._context.records(self._context.directory()):
            for secret in record.secrets if record.state is KeyState.ACTIVE else ():
                used[secret.pepper_id] = used.get(secret.pepper_id, 0) + 1
        return used

    def _change(
        self, name: str, action: str, plan: str | None = None, state: TenantState | None = None
    ) -> dict[str, Any]:
        context = self._context
        changed: list[Tenant] = []

        def edit(directory: Directory) -> tuple[Directory, Entry]:
            before = context.tenant(directory, name)
            after = replace(before, plan=plan or before.plan, state=state or before.state)
            changed[:] = [after]
            entry = Entry(action, name, tenant_view(before), tenant_view(after))
            return directory.with_tenant(after), entry

        outcome = context.change_directory(edit)
        return answered(tenant_view(changed[0]), outcome)
