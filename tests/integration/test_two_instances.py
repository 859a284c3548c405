"""What an admin changes is in force on every instance with the next request, and text is one."""

from __future__ import annotations

import pytest

from tests.support.api_server import ApiServer
from tests.support.live_api import LiveApi


@pytest.fixture(scope="module")
def two(live_api: LiveApi):
    """Return the live API and a second process on the same home."""
    second = ApiServer(live_api.environ).wait_ready()
    yield live_api, second
    second.stop()


def test_a_plan_change_reaches_both_at_once(two):
    """The next request of either is decided by the new plan."""
    live, second = two
    issued = live.issue(plan="free")
    for server in (live.server, second):
        assert server.post("/generate", issued["key"], num_chars=1001).status_code == 422
    live.admin.tenants.set_plan(issued["tenant"], "partner")
    for server in (live.server, second):
        assert server.post("/generate", issued["key"], num_chars=1001).status_code == 200


def test_one_seed_gives_one_text_on_both(two):
    """Which instance answers does not show in the text."""
    live, second = two
    key = live.issue()["key"]
    texts = {
        server.post("/generate", key, seed=11, num_chars=100).json()["text"]
        for server in (live.server, second)
    }
    assert len(texts) == 1
