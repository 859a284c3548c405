"""The admin's operations on tenants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from auth.admin_context import AdminContext, answered, check_name
from auth.changes import Entry
from auth.directory import Directory, Tenant, TenantState
from auth.errors import AdminRefusedError
from auth.plan_use import lacking_plans
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
        return [self._shown(tenants[name]) for name in sorted(tenants)]

    def _shown(self, tenant: Tenant) -> dict[str, Any]:
        lacking = lacking_plans({tenant.name: tenant}, (), self._context.plans)
        return tenant_view(tenant) | ({"warnings": [lacking]} if lacking else {})

    def show(self, name: str) -> dict[str, Any]:
        """Return one tenant."""
        return self._shown(self._context.tenant(self._context.directory(), name))

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

    def _change(
        self, name: str, action: str, plan: str | None = None, state: TenantState | None = None
    ) -> dict[str, Any]:
        context = self._context
        changed: list[Tenant] = []

        def edit(directory: Directory) -> tuple[Directory, Entry]:
            before = context.tenant(directory, name)
            after = replace(before, plan=plan or before.plan, state=state or before.state)
            changed[:] = [after]
            gone = after.state is TenantState.DISABLED
            views = tenant_view(before), tenant_view(after)
            return directory.with_tenant(after), Entry(action, name, *views, takes_away=gone)

        outcome = context.change_directory(edit)
        return answered(tenant_view(changed[0]), outcome)
