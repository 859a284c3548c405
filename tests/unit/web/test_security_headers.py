"""Every answer carries the headers; metrics, remote control and foreign pages get nothing."""

import asyncio
import base64
import hashlib

import pytest

from web.security_headers import SecurityHeaders, content_security_policy, streamlit_index


async def _inner(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    headers = [(b"content-type", b"text/plain"), (b"X-Frame-Options", b"ALLOWALL")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"inner"})


def _ask(kind="http", path="/", headers=(), scheme="http", hosts=frozenset()):
    sent = []

    async def receive():
        return {"type": f"{kind}.connect"}

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "path": path, "headers": list(headers), "scheme": scheme}
    asyncio.run(SecurityHeaders(_inner, "the policy", hosts)(scope, receive, send))
    return sent


def _headers(sent):
    return [(name.lower(), value) for name, value in sent[0]["headers"]]


def test_every_answer_has_the_headers_once():
    """Ours replace what the app itself may have said."""
    headers = _headers(_ask())
    names = [name for name, _ in headers]
    assert len(names) == len(set(names))
    assert dict(headers)[b"content-security-policy"] == b"the policy"
    assert dict(headers)[b"x-content-type-options"] == b"nosniff"
    assert dict(headers)[b"x-frame-options"] == b"DENY"
    assert dict(headers)[b"referrer-policy"] == b"no-referrer"
    assert b"strict-transport-security" not in names


def test_behind_https_the_browser_is_told_to_stay_there():
    """HSTS is sent exactly where TLS was spoken."""
    proxied = [(b"x-forwarded-proto", b"https")]
    assert b"strict-transport-security" in dict(_headers(_ask(headers=proxied)))


@pytest.mark.parametrize(
    "path",
    [
        "/_stcore/metrics",
        "/_stcore/agent",
        "/_stcore/agent/openapi.json",
        "/_stcore/agent/interact",
        "/_stcore/agent/mcp",
        "/_stcore/upload_file/x/y",
    ],
)
def test_what_streamlit_offers_to_strangers_is_closed(path):
    """Metrics, remote control and uploads are not there, whoever asks; the headers are."""
    sent = _ask(path=path)
    assert sent[0]["status"] == 404
    assert b"content-security-policy" in dict(_headers(sent))


def test_the_health_check_stays_open():
    """A path that only looks like a closed one is served."""
    assert _ask(path="/_stcore/health")[0]["status"] == 200
    assert _ask(path="/_stcore/metricsx")[0]["status"] == 200


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [
        (None, True),
        (b"http://web.example", True),
        (b"https://web.example", True),
        (b"http://evil.example", False),
        (b"http://web.example.evil.example", False),
        (b"http://web.example:8080", False),
        (b"null", False),
        (b"", False),
    ],
)
def test_only_our_own_page_opens_a_websocket(origin, accepted):
    """A page of another origin cannot use a person's cookie to run the app."""
    headers = [(b"host", b"web.example")] + ([(b"origin", origin)] if origin is not None else [])
    sent = _ask("websocket", headers=headers)
    assert sent[0]["type"] == ("websocket.accept" if accepted else "websocket.close")


@pytest.mark.parametrize(
    ("host", "accepted"),
    [(b"web.example", True), (b"WEB.example", True), (b"web.example:1", False), (b"evil", False)],
)
def test_only_by_our_own_names_is_a_websocket_opened(host, accepted):
    """A foreign name that was made to lead here gets no page; health checks by address go on."""
    hosts = frozenset({"web.example", "localhost:8501"})
    headers = [(b"host", host), (b"origin", b"http://" + host)]
    sent = _ask("websocket", headers=headers, hosts=hosts)
    assert sent[0]["type"] == ("websocket.accept" if accepted else "websocket.close")
    assert _ask(headers=headers, hosts=hosts)[0]["status"] == 200


def test_a_page_in_clear_opens_no_websocket_behind_https():
    """Whoever writes into a page on the way cannot use the cookie of the real one."""
    for scheme, kind in ((b"http", "websocket.close"), (b"https", "websocket.accept")):
        origin = (b"origin", scheme + b"://web.example")
        headers = [(b"host", b"web.example"), (b"x-forwarded-proto", b"https"), origin]
        assert _ask("websocket", headers=headers)[0]["type"] == kind


def test_the_policy_allows_exactly_the_inline_script_that_streamlit_serves():
    """The hash is of the very page; no inline or foreign script is allowed beside it."""
    policy = content_security_policy("<script>one()</script><script src=x></script>")
    digest = base64.b64encode(hashlib.sha256(b"one()").digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    scripts = content_security_policy(streamlit_index()).split("script-src")[1].split(";")[0]
    assert scripts.count("sha256-") == 1
    assert "unsafe" not in scripts
    assert "http" not in scripts
