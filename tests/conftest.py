"""Fixtures live in `tests/support`, one file for each real part that tests run against."""

import os
from collections.abc import Iterator

import hypothesis
import pytest
import structlog

# Nothing timed is a test: on a crowded machine hypothesis may take as long as it needs.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")

pytest_plugins = (
    "tests.support.api_bench",
    "tests.support.api_server",
    "tests.support.auth_world",
    "tests.support.bpe",
    "tests.support.cloud_storage",
    "tests.support.browser",
    "tests.support.edge_proxy",
    "tests.support.fake_api",
    "tests.support.live_api",
    "tests.support.otlp_collector",
    "tests.support.redis_server",
    "tests.support.secret_manager",
    "tests.support.tiny_model",
    "tests.support.web_parts",
    "tests.support.web_server",
    "tests.support.cloud_project",
)


@pytest.fixture
def soak() -> bool:
    """Say whether the long form of a guarantee is to be shown: `make soak`."""
    return bool(os.environ.get("SOAK"))


@pytest.fixture(autouse=True)
def _logs_go_to_this_test() -> Iterator[None]:
    """Undo what a command that was called in this process set up: it logs to a captured stream."""
    yield
    structlog.reset_defaults()
