"""Behind a platform's edge: TLS is known from the proxy, and so is the client's address."""

from __future__ import annotations

import pytest

from tests.support.waiting import wait_until
from tests.support.web_server import WebServer

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine


@pytest.fixture
def edge(web_home, fake_api, edge_proxy):
    server = WebServer(web_home.path, fake_api.url, {"CLIENT_ADDRESS_HEADER": "Fly-Client-IP"})
    server.start()
    yield edge_proxy(server.port)
    server.stop()


def test_the_cookie_is_secure_and_recognised_after_a_reload(edge, web_home, open_tab):
    """It has the __Host- name, and page, WebSocket and route agree on it; logout clears it."""
    tab = open_tab(edge.url)
    tab.log_in(web_home.ada.name, web_home.ada.password)
    tab.button("Generate Text").wait_for()
    wait_until(tab.session_cookie)
    cookie = tab.session_cookie()
    assert cookie["name"] == "__Host-quillgate"
    assert cookie["secure"]
    assert cookie["httpOnly"]
    tab.page.reload()
    tab.button("Generate Text").wait_for()
    tab.button("Logout").click()
    tab.field("Username").wait_for()
    wait_until(lambda: not tab.session_cookie())
    assert tab.complaints == []


def test_attempts_are_counted_by_the_clients_address(edge, web_home, open_tab):
    """Somebody else's wrong guesses behind the same proxy lock nobody out."""
    stranger = open_tab(edge.url)
    told = stranger.page.get_by_text("Too many attempts.")
    for _ in range(20):
        stranger.log_in(web_home.ada.name, "wrong")
        stranger.page.wait_for_timeout(500)
        stranger.idle()
        if told.count():
            break
    stranger.log_in(web_home.ada.name, web_home.ada.password)
    stranger.page.wait_for_timeout(500)
    stranger.idle()
    assert told.count() == 1
    edge.client_address = "198.51.100.20"
    tab = open_tab(edge.url)
    tab.log_in(web_home.ada.name, web_home.ada.password)
    tab.button("Generate Text").wait_for()
