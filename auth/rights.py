"""Which identity may do what with which secrets: the least that each needs. Pure.

The same table makes the `gcloud` lines of docs/secret-manager.md, what `secrets check` holds an
identity against, and what the tests' Secret Manager enforces. Bindings are conditional on the
secret's name, so that a new shard, pepper or user needs no new binding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from auth.names import Names
from auth.secrets import Right


class Identity(StrEnum):
    """Who works with the secrets: two services, and the people who administer."""

    API = "api"
    WEB = "web"
    OPERATOR = "operator"


# Google's predefined roles, as far as they matter here, and the one that has to be made: moving an
# alias is `secrets.update`, which Google gives out only with the role of a full administrator.
ACCESSOR = "roles/secretmanager.secretAccessor"
ADDER = "roles/secretmanager.secretVersionAdder"
MANAGER = "roles/secretmanager.secretVersionManager"
ADMIN = "roles/secretmanager.admin"
ALIAS_MOVER = "quillgateAliasMover"
CREATOR = "quillgateCreator"
CREATOR_PERMISSIONS = ("secretmanager.secrets.create", "secretmanager.secrets.list")

ROLES: Mapping[str, frozenset[Right]] = MappingProxyType(
    {
        ACCESSOR: frozenset({Right.ACCESS}),
        ADDER: frozenset({Right.ADD}),
        MANAGER: frozenset({Right.ADD, Right.LIST, Right.DESTROY}),
        ALIAS_MOVER: frozenset({Right.GET, Right.UPDATE}),
        ADMIN: frozenset(Right),
    }
)


@dataclass(frozen=True, slots=True)
class Binding:
    """A role of an identity on the secrets whose names begin so."""

    identity: Identity
    role: str
    begins: tuple[str, ...]
    why: str


def bindings(names: Names) -> tuple[Binding, ...]:
    """Return every binding for secrets of these names."""
    keyring = (f"{names.prefix}-keyring-", names.directory, names.audit)
    peppers = (f"{names.prefix}-pepper-",)
    web_keys = (f"{names.prefix}-webkey-",)
    api, web = Identity.API, Identity.WEB
    return (
        Binding(api, ACCESSOR, (*keyring, *peppers), "reads the keyring, its audit, the peppers"),
        Binding(api, MANAGER, keyring, "adds versions of the keyring, destroys superseded ones"),
        Binding(api, ALIAS_MOVER, keyring, "makes a version the current one, by compare-and-swap"),
        Binding(web, ACCESSOR, (names.users, *web_keys), "reads users and the keys it forwards"),
        Binding(web, ADDER, web_keys, "keeps the new secret of a key that it rotated"),
        Binding(Identity.OPERATOR, ADMIN, (names.prefix + "-",), "sets up, repairs, administers"),
    )


def web_users_bindings(names: Names) -> tuple[Binding, ...]:
    """Return what the API may be given besides, so that web users are kept through it too.

    For *Admin / Users* of the web app and for first passwords. It still reads no key in clear.
    """
    api, users = Identity.API, (names.users,)
    return (
        Binding(api, ACCESSOR, users, "reads web users (optional)"),
        Binding(api, MANAGER, users, "adds versions of them, destroys superseded ones (optional)"),
        Binding(api, ALIAS_MOVER, users, "makes a version the current one (optional)"),
        Binding(api, ADDER, (names.web_key(""),), "keeps the key of a user it adds (optional)"),
    )


def needed(
    identity: Identity, name: str, names: Names, *, web_users: bool = False
) -> frozenset[Right]:
    """Return what an identity must be able to do with the secret of this name, and no more.

    With `web_users` the API keeps web users too.
    """
    return frozenset(
        right
        for one in (*bindings(names), *(web_users_bindings(names) if web_users else ()))
        if one.identity is identity and name.startswith(one.begins)
        for right in ROLES[one.role]
    )


def gcloud_lines(names: Names) -> list[str]:
    """Return the commands that create identities and bindings; PROJECT and OPERATOR are set."""
    lines = [
        'NUMBER=$(gcloud projects describe "$PROJECT" --format="value(projectNumber)")',
        'gcloud services enable secretmanager.googleapis.com --project="$PROJECT"',
        *(
            f'gcloud iam service-accounts create {names.prefix}-{one} --project="$PROJECT"'
            for one in (Identity.API, Identity.WEB)
        ),
        _create_role(ALIAS_MOVER, sorted(one.permission for one in ROLES[ALIAS_MOVER])),
    ]
    for number, one in enumerate(bindings(names), start=1):
        lines += [f"# {one.identity}: {one.why}", _bind(one, names.prefix, number)]
    lines += [
        "# operator: creates secrets, which no condition on a secret's name can allow",
        _create_role(CREATOR, CREATOR_PERMISSIONS),
        _ADD_BINDING + f'"$OPERATOR" --role="projects/$PROJECT/roles/{CREATOR}" --condition=None',
        "# optional, so that the API keeps web users too: `secrets grants --web-users`",
    ]
    return lines


def web_users_gcloud_lines(names: Names) -> list[str]:
    """Return the commands that let the API keep web users too, to be given after the others."""
    lines: list[str] = []
    for number, one in enumerate(web_users_bindings(names), start=len(bindings(names)) + 1):
        lines += [f"# {one.identity}: {one.why}", _bind(one, names.prefix, number)]
    member = f"serviceAccount:{names.prefix}-{Identity.API}@$PROJECT.iam.gserviceaccount.com"
    role = f"projects/$PROJECT/roles/{CREATOR}"
    return [
        *lines,
        f"# {Identity.API}: creates the secret of a new user's key, empty (optional)",
        f'{_ADD_BINDING}"{member}" --role="{role}" --condition=None',
    ]


_ADD_BINDING = 'gcloud projects add-iam-policy-binding "$PROJECT" --member='


def _create_role(role: str, permissions: Iterable[str]) -> str:
    listed = ",".join(permissions)
    return f'gcloud iam roles create {role} --project="$PROJECT" --permissions={listed}'


def _bind(one: Binding, prefix: str, number: int) -> str:
    account = f"serviceAccount:{prefix}-{one.identity}@$PROJECT.iam.gserviceaccount.com"
    member = "$OPERATOR" if one.identity is Identity.OPERATOR else account
    role = one.role if one.role.startswith("roles/") else f"projects/$PROJECT/roles/{one.role}"
    expression = " || ".join(
        f"resource.name.startsWith('projects/$NUMBER/secrets/{begin}')" for begin in one.begins
    )
    return (
        f'{_ADD_BINDING}"{member}" --role="{role}" '
        f'--condition="title={prefix}-{one.identity}-{number},expression={expression}"'
    )
