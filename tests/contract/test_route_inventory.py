"""Every route, and who may call it: a route that is not in this table cannot be added."""

from __future__ import annotations

import re

import pytest

from api.access import access_of, check_policies, public, requires
from auth.principal import Scope

ANYONE, ANY_KEY = "anyone", "any key"

ROUTES = {
    ("GET", "/health"): ANYONE,
    ("GET", "/ready"): ANYONE,
    ("GET", "/openapi.json"): ANYONE,
    ("GET", "/docs"): ANYONE,
    ("POST", "/generate"): Scope.GENERATE,
    ("POST", "/v1/completions"): Scope.GENERATE,
    ("GET", "/v1/models"): Scope.GENERATE,
    ("GET", "/v1/key"): ANY_KEY,
    ("POST", "/v1/key/rotate"): Scope.KEY_ROTATE,
    ("DELETE", "/v1/key/rotation"): Scope.KEY_ROTATE,
    ("GET", "/v1/usage"): Scope.USAGE_READ,
    ("GET", "/v1/admin/tenants"): Scope.ADMIN,
    ("POST", "/v1/admin/tenants"): Scope.ADMIN,
    ("GET", "/v1/admin/tenants/<tenant>"): Scope.ADMIN,
    ("PATCH", "/v1/admin/tenants/<tenant>"): Scope.ADMIN,
    ("GET", "/v1/admin/keys"): Scope.ADMIN,
    ("POST", "/v1/admin/keys"): Scope.ADMIN,
    ("GET", "/v1/admin/keys/<key_id>"): Scope.ADMIN,
    ("PATCH", "/v1/admin/keys/<key_id>"): Scope.ADMIN,
    ("POST", "/v1/admin/keys/<key_id>/rotate"): Scope.ADMIN,
    ("DELETE", "/v1/admin/keys/<key_id>/rotation"): Scope.ADMIN,
    ("POST", "/v1/admin/keys/<key_id>/revoke"): Scope.ADMIN,
    ("PATCH", "/v1/admin/keys/<key_id>/limits"): Scope.ADMIN,
    ("PATCH", "/v1/admin/tenants/<tenant>/caps"): Scope.ADMIN,
    ("GET", "/v1/admin/users"): Scope.ADMIN,
    ("POST", "/v1/admin/users"): Scope.ADMIN,
    ("PATCH", "/v1/admin/users/<user>"): Scope.ADMIN,
    ("POST", "/v1/admin/users/<user>/password"): Scope.ADMIN,
    ("POST", "/v1/admin/users/<user>/key"): Scope.ADMIN,
    ("POST", "/v1/user/password"): ANY_KEY,
    ("GET", "/v1/admin/load"): Scope.ADMIN,
    ("GET", "/v1/admin/usage"): Scope.ADMIN,
    ("GET", "/v1/admin/usage/export"): Scope.ADMIN,
    ("GET", "/v1/admin/failures"): Scope.ADMIN,
    ("GET", "/v1/admin/audit"): Scope.ADMIN,
    ("GET", "/v1/admin/audit/verify"): Scope.ADMIN,
}
KEYED = sorted(route for route, who in ROUTES.items() if who is not ANYONE)


def found(app):
    for rule in app.url_map.iter_rules():
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            yield (method, rule.rule), access_of(app, rule.endpoint)


def test_every_route_has_the_policy_of_the_table(bench):
    """The app serves exactly the routes of the table, each to those it names."""
    policies = {
        route: (access.scope or ANY_KEY) if access.keyed else ANYONE
        for route, access in found(bench.app)
    }
    assert policies == ROUTES


def test_a_route_without_a_policy_stops_the_start(bench):
    """A view that does not say who may call it is found before the first request."""
    bench.app.add_url_rule("/open", view_func=lambda: "", endpoint="open")
    with pytest.raises(RuntimeError, match="/open"):
        check_policies(bench.app)


@pytest.mark.parametrize(("method", "path"), KEYED)
def test_no_keyed_route_answers_without_a_key(bench, method, path):
    """Whatever the route, no key is 401, even with an empty body."""
    path = re.sub(r"<[^>]+>", "AAAAAAAAAAAA", path)
    answer = bench.client.open(path, method=method, json={})
    assert answer.status_code == 401
    assert answer.get_json()["code"] == "invalid_key"


def test_the_document_describes_every_route(bench):
    """OpenAPI has the same routes, and says of each whether it needs a key."""
    document = bench.client.get("/openapi.json").get_json()
    described = {
        (method.upper(), path): "security" in operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    expected = {
        (method, re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", path)): who is not ANYONE
        for (method, path), who in ROUTES.items()
    }
    assert described == expected


def test_metrics_are_not_on_the_public_port(bench):
    """Prometheus has a port of its own."""
    assert bench.client.get("/metrics").status_code == 404


def test_policies_are_declared_by_name():
    """`public` and `requires` are the only ways to declare one."""
    assert not public(lambda: None).access.keyed
    assert requires(None)(lambda: None).access.keyed
