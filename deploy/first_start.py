"""Make what a person needs to begin: a tenant, two users, a key for each. Repeating is harmless.

Works through the same operations as `python -m auth`. What is there already stays as it is, so a
first start that was interrupted is completed by the next. When the store or Redis is away,
the operations' own errors pass through. With Google Secret Manager nothing is made: a real
project's tenants are an admin's decision.
"""

from __future__ import annotations

import socket
from contextlib import closing
from dataclasses import dataclass, field

from auth.audit import Actor
from auth.config import AuthSettings
from auth.propagation import ADMIN_TIMEOUT_SECONDS
from auth.stores import open_stores
from auth.users import Role

TENANT = "demo"
PLAN = "standard"
USERS = {"demo": (Role.USER,), "admin": (Role.USER, Role.ADMIN)}


@dataclass(frozen=True, slots=True)
class NewUser:
    """A web user just made; what is shown of it is shown once."""

    name: str
    password: str = field(repr=False)
    key: str = field(repr=False)


def first_start(settings: AuthSettings, redis_url: str) -> list[NewUser]:
    """Return the users that were missing and are now there, with their passwords and keys."""
    if settings.gcp_project is not None:
        return []
    stores = open_stores(settings, redis_url, redis_timeout_seconds=ADMIN_TIMEOUT_SECONDS)
    with closing(stores):
        admin = stores.admin(Actor("make run", socket.gethostname()))
        admin.set_up()
        if TENANT not in {tenant["tenant"] for tenant in admin.tenants.list()}:
            admin.tenants.add(TENANT, PLAN)
        present = stores.users.load()
        made = []
        for name, roles in USERS.items():
            if name not in present:
                added = admin.users.add(name, TENANT, roles, must_change=False)
                made.append(NewUser(name, added["password"], stores.users.key_of(name) or ""))
        return made
