"""Who may call a view, with what body and query: said at the view by `public` or `requires`.

A view that says nothing cannot be registered: `check_policies` stops the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask

from api.schemas import Body
from auth.principal import Scope

if TYPE_CHECKING:
    from api.call import Call

# The view of a plain request: the document to answer with, or None if it is not so plain after all.
Whole = Callable[["Call"], dict[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call a view, and with what."""

    keyed: bool
    scope: Scope | None = None
    bearer: bool = False  # the key may also come as `Authorization: Bearer`
    body: type[Body] | None = None
    body_required: bool = True
    query: frozenset[str] = frozenset()  # the parameters that it knows, each once at most
    while_draining: bool = False
    by_address: bool = False  # each address may call it at a rate of its own
    probe: bool = False  # its 503 is an answer with a body like that of its 200, no problem
    whole: Whole | None = None  # how front.py answers it without Flask, where it may

    @property
    def generates(self) -> bool:
        return self.scope is Scope.GENERATE and self.body is not None


V = TypeVar("V", bound=Callable[..., Any])


def public(view: V) -> V:
    """Anyone may call it, also while the process drains."""
    view.access = Access(keyed=False, while_draining=True)  # type: ignore[attr-defined] # functions carry their policy
    return view


def public_probe(view: V) -> V:
    """Anyone may call it, and is told yes (200) or no (503) with the same body."""
    view.access = Access(keyed=False, while_draining=True, probe=True)  # type: ignore[attr-defined] # as above
    return view


def public_by_address(view: V) -> V:
    """Anyone may call it, each address at the rate of `throttle.PUBLIC_READS`."""
    view.access = Access(keyed=False, while_draining=True, by_address=True)  # type: ignore[attr-defined] # as above
    return view


def requires(
    scope: Scope | None,
    *,
    bearer: bool = False,
    body: type[Body] | None = None,
    body_required: bool = True,
    query: Iterable[str] = (),
    whole: Whole | None = None,
) -> Callable[[V], V]:
    """Only a good key may call it, with the scope if one is named."""
    access = Access(
        keyed=True,
        scope=scope,
        bearer=bearer,
        body=body,
        body_required=body_required,
        query=frozenset(query),
        whole=whole,
    )

    def declare(view: V) -> V:
        view.access = access  # type: ignore[attr-defined] # as above
        return view

    return declare


def access_of(app: Flask, endpoint: str) -> Access | None:
    access: Access | None = getattr(app.view_functions.get(endpoint), "access", None)
    return access


def check_policies(app: Flask) -> None:
    """Raise RuntimeError if a route does not say who may call it."""
    for rule in app.url_map.iter_rules():
        if access_of(app, rule.endpoint) is None:
            raise RuntimeError(f"{rule.rule} ({rule.endpoint}) declares no access policy")
