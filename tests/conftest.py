"""Fixtures live in `tests/support`, one file for each real part that tests run against."""

pytest_plugins = (
    "tests.support.api_bench",
    "tests.support.api_server",
    "tests.support.auth_world",
    "tests.support.browser",
    "tests.support.fake_api",
    "tests.support.live_api",
    "tests.support.redis_server",
    "tests.support.secret_manager",
    "tests.support.tiny_model",
    "tests.support.web_parts",
    "tests.support.web_server",
)
