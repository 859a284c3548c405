"""The session cookie: set and cleared by the server only, for our own page only."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette

from tests.support.web_parts import Clock
from web.known_browsers import KnownBrowsers
from web.page_posts import draft_route, script_routes
from web.session_routes import session_routes
from web.sessions import LIFETIME_SECONDS, Sessions
from web.visits import Visits

OURS = {"X-Requested-With": "quillgate"}


@pytest.fixture
def sessions():
    return Sessions("k" * 40, clock=Clock())


@pytest.fixture
def visits():
    return Visits(clock=Clock())


@pytest.fixture
def client(sessions, visits):
    routes = session_routes(sessions, KnownBrowsers("k" * 40))
    routes += [draft_route(sessions, visits), *script_routes()]
    return _Client(Starlette(routes=routes))


class _Client:
    """Asks the app without a socket."""

    def __init__(self, app):
        self._app = app

    def get(self, path):
        return self._ask("GET", path)

    def post(self, path, **request):
        return self._ask("POST", path, **request)

    def _ask(self, method, path, **request):
        async def ask():
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
                return await client.request(method, path, **request)

        return asyncio.run(ask())


def _start(client, sessions, headers=OURS):
    ticket = sessions.ticket(sessions.start("ada", "v1"))
    return client.post("/session/start", json={"ticket": ticket}, headers=headers)


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(client, sessions):
    """HttpOnly, SameSite=Strict, for the whole site, for eight hours."""
    answer = _start(client, sessions)
    assert answer.status_code == 204
    cookie, known = (cookie.lower() for cookie in answer.headers.get_list("set-cookie"))
    assert cookie.startswith("quillgate=")
    assert known.startswith("quillgate-known-")
    assert f"max-age={LIFETIME_SECONDS}" in cookie
    for attribute in ("httponly", "samesite=strict", "path=/"):
        assert attribute in cookie
        assert attribute in known
    assert "secure" not in cookie + known
    assert answer.headers["cache-control"] == "no-store"


def test_behind_https_the_cookie_is_secure_and_bound_to_the_host(client, sessions):
    """It never travels in clear and no sibling host can set it."""
    answer = _start(client, sessions, OURS | {"X-Forwarded-Proto": "https"})
    cookies = [cookie.lower() for cookie in answer.headers.get_list("set-cookie")]
    assert cookies[0].startswith("__host-quillgate=")
    assert cookies[1].startswith("__host-quillgate-known-")
    for cookie in cookies:
        assert "secure" in cookie
        assert "domain" not in cookie


@pytest.mark.parametrize("path", ["/session/start", "/session/end"])
def test_a_post_without_our_header_does_nothing(client, sessions, path):
    """A form on another site cannot send it, so it can neither log in nor out."""
    ticket = sessions.ticket(sessions.start("ada", "v1"))
    answer = client.post(path, json={"ticket": ticket})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "body", [b"", b"[", b"[]", b"null", b'{"ticket": 1}', b'{"ticket": "made up"}', b"x" * 5000]
)
def test_nothing_but_a_fresh_ticket_sets_a_cookie(client, body):
    """Broken, foreign and huge bodies are refused without an error."""
    answer = client.post("/session/start", content=body, headers=OURS)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_a_ticket_sets_one_cookie(client, sessions):
    """Whoever sees a ticket afterwards gets nothing for it."""
    ticket = sessions.ticket(sessions.start("ada", "v1"))
    answers = [
        client.post("/session/start", json={"ticket": ticket}, headers=OURS).status_code
        for _ in range(2)
    ]
    assert answers == [204, 403]


def test_a_login_ends_the_session_whose_cookie_it_replaces(client, sessions):
    """No logout could reach that one any more, in whichever tab it was."""
    first, second = sessions.start("ada", "v1"), sessions.start("ada", "v1")
    for token in (first, second):
        headers = OURS | {"Cookie": f"quillgate={first}"}
        client.post("/session/start", json={"ticket": sessions.ticket(token)}, headers=headers)
    assert sessions.read(first) is None
    assert sessions.read(second) is not None


def test_a_browser_that_is_known_stays_the_one_it_is(client, sessions):
    """A login there sets no other cookie, so that nobody gathers more attempts by them."""
    known = _start(client, sessions).headers.get_list("set-cookie")[1].partition(";")[0]
    again = _start(client, sessions, OURS | {"Cookie": known})
    assert len(again.headers.get_list("set-cookie")) == 1


def test_a_draft_is_kept_for_who_is_logged_in_and_for_nobody_else(client, sessions, visits):
    """Only in a visit that has begun, from a page of ours that this login drew, and no longer than
    a browser sends: a page that another login left open holds what is somebody else's."""
    token = sessions.start("ada", "v1")
    session, cookie = sessions.read(token), {"Cookie": f"quillgate={token}"}
    another = sessions.read(sessions.start("bob", "v1"))

    def post(headers, prompt, login=session.tag):
        body = {"login": login, "prompt": prompt}
        answer = client.post("/session/draft", json=body, headers=headers)
        return answer.status_code, visits.of(session).fields.get("prompt")

    assert post(OURS | cookie, "early") == (204, None)
    visits.keep(session, {"prompt": ["", 3]}, [])
    assert post(cookie, "foreign") == (403, ["", 3])
    assert post(OURS, "stranger") == (403, ["", 3])
    assert post(OURS | cookie, "another's", another.tag) == (204, ["", 3])
    assert post(OURS | cookie, "nobody's", None) == (204, ["", 3])
    assert post(OURS | cookie, 7) == (204, ["", 3])
    assert post(OURS | cookie, "x" * 70_000) == (204, ["", 3])
    assert post(OURS | cookie, "KING:\n\u201c") == (204, ["KING:\n\u201c", 3])
    sessions.end(session)
    assert post(OURS | cookie, "late")[0] == 403


@pytest.mark.parametrize("name", ["call.js", "draft.js", "focus.js"])
def test_scripts_are_served_as_what_they_are(client, name):
    """Under our own address, so that the policy for scripts needs no exception."""
    answer = client.get(f"/assets/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")


def test_a_dead_sessions_cookie_is_cleared(client, sessions):
    """After a logout the browser keeps nothing."""
    token = sessions.start("ada", "v1")
    sessions.end(sessions.read(token))
    headers = OURS | {"Cookie": f"quillgate={token}"}
    answer = client.post("/session/end", json={}, headers=headers)
    assert answer.status_code == 204
    assert 'quillgate=""' in answer.headers["set-cookie"]


def test_a_live_sessions_cookie_is_left_alone(client, sessions):
    """Logging out in a tab does not end a later login of the same browser."""
    token = sessions.start("ada", "v1")
    headers = OURS | {"Cookie": f"quillgate={token}"}
    assert "set-cookie" not in client.post("/session/end", json={}, headers=headers).headers
    assert sessions.read(token) is not None


def test_the_script_that_calls_is_served_as_one(client):
    """It comes from our own origin, so that no inline script is needed."""
    answer = client.get("/assets/call.js?1")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "X-Requested-With" in answer.text
