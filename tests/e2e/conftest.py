"""What several API processes share, as an operator sets it up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.cli import auth
from tests.support.plans import TEN_A_MINUTE, WIDE


@pytest.fixture
def world(tmp_path, redis_url, tiny_model) -> dict[str, str]:
    """Return the environment that all processes and the command line share; a tenant is there."""
    plans = tmp_path / "plans.toml"
    plans.write_text(TEN_A_MINUTE + WIDE)
    environ = {
        "QUILLGATE_HOME": str(tmp_path / "home"),
        "REDIS_URL": redis_url,
        "MODEL_URI": str(tiny_model),
        "PLANS_FILE": str(plans),
        "QUEUE_LIMIT": "200",
    }
    auth(environ, "tenants", "add", "acme", "--plan", "wide")
    return environ


@pytest.fixture
def issue(world) -> Callable[[str], dict[str, Any]]:
    """Return a function that issues a key on a plan."""

    def issue_on(plan: str) -> dict[str, Any]:
        words = ("--tenant", "acme", "--name", plan, "--plan", plan)
        return auth(world, "keys", "issue", *words)

    return issue_on
