"""What an admin changes is in force on every instance with the next request, and text is one."""

from __future__ import annotations

import httpx
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


def test_a_request_made_again_elsewhere_gives_its_text_and_costs_nothing(two):
    """The first answer was lost on its way: the other instance gives it again, bit for bit."""
    live, second = two
    key = live.issue()["key"]

    def ask(server: ApiServer) -> httpx.Response:
        headers = {"X-API-Key": key, "Idempotency-Key": "lost-answer-1"}
        body = {"prompt": "And", "num_chars": 90}
        return httpx.post(f"{server.url}/generate", headers=headers, json=body, timeout=60)

    first, again = ask(live.server), ask(second)
    assert again.json()["text"] == first.json()["text"]
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["usage"]["charged_chars"] == 0
    assert live.left(key)["chars_per_day"] == 1_000_000 - 90
