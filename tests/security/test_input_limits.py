"""Bad input over raw sockets, against the real service: each its documented answer, and free."""

from __future__ import annotations

import json
import time

import pytest

from tests.support.live_api import LiveApi, other_label

GOOD_BODY = b'{"num_chars": 5}'


def post(
    live: LiveApi,
    *,
    headers: list[tuple[str, str]],
    body: bytes = GOOD_BODY,
    method: str = "POST",
    path: str = "/generate",
    media_type: str | None = "application/json",
    length: int | None = -1,
) -> tuple[int, dict[str, str], dict[str, object]]:
    """Send one request as bytes. `length` -1: the true one; None: none."""
    lines = [f"{method} {path} HTTP/1.1", "Host: api", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (*headers, *live.address().items())]
    if media_type is not None:
        lines.append(f"Content-Type: {media_type}")
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    status, got, answer = live.server.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    assert got["content-type"] == "application/problem+json", answer
    document = json.loads(answer)
    assert document["status"] == status
    assert document["request_id"] == got["x-request-id"]
    return status, got, document


@pytest.fixture
def key(fresh_key):
    return fresh_key()


@pytest.fixture
def unspent(live_api, key):
    """Check after the test that the key was charged nothing at all."""
    before = live_api.left(key)
    yield
    assert live_api.left(key) == before


@pytest.mark.usefixtures("unspent")
def test_bad_keys_are_one_answer(live_api, key):
    """None, two, wrong, other label, revoked, expired: the same 401, to the byte."""
    expiring = live_api.issue(expires_at=int(time.time()) + 2)["key"]
    revoked = live_api.issue()
    live_api.admin.keys.revoke(revoked["key_id"])
    wrong_secret = key[:20] + ("a" if key[20] != "a" else "b") + key[21:]
    time.sleep(2.1)
    attempts = {
        "none": [],
        "empty": [("X-API-Key", "")],
        "two": [("X-API-Key", key), ("X-API-Key", key)],
        "two in one": [("X-API-Key", f"{key}, {key}")],
        "nonsense": [("X-API-Key", "hunter2")],
        "wrong": [("X-API-Key", wrong_secret)],
        "other label": [("X-API-Key", other_label(live_api))],
        "revoked": [("X-API-Key", revoked["key"])],
        "expired": [("X-API-Key", expiring)],
        "bearer": [("Authorization", f"Bearer {key}")],
        "both": [("X-API-Key", key), ("Authorization", f"Bearer {key}")],
    }
    answers = set()
    for name, headers in attempts.items():
        status, got, document = post(live_api, headers=[*headers, ("X-Request-Id", "same-id-00")])
        assert (status, document["code"]) == (401, "invalid_key"), name
        got.pop("date")
        answers.add((json.dumps(document), tuple(sorted(got.items()))))
    assert len(answers) == 1


def test_a_good_key_of_this_service_is_let_in(live_api, key):
    """The refusals above are not for a fault of the set-up."""
    answer = live_api.server.post("/generate", key, num_chars=5)
    assert answer.status_code == 200
    assert len(answer.json()["text"]) == 5


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b'{"num_chars": 5', 400, "malformed_json", None),
        (b"", 400, "malformed_json", None),
        (b"[1]", 400, "malformed_json", None),
        (b'{"num_chars": 5, "num_chars": 6}', 400, "malformed_json", None),
        (b'{"temperature": NaN}', 400, "malformed_json", None),
        (b'{"num_charz": 5}', 422, "invalid_request", "num_charz"),
        (b'{"num_chars": 0}', 422, "invalid_request", "num_chars"),
        (b'{"num_chars": -1}', 422, "invalid_request", "num_chars"),
        (b'{"num_chars": 1000000000}', 422, "exceeds_plan", None),
        (b'{"num_chars": 1.5}', 422, "invalid_request", "num_chars"),
        (b'{"num_chars": "10"}', 422, "invalid_request", "num_chars"),
        (b'{"seed": -1}', 422, "invalid_request", "seed"),
        (b'{"temperature": 3}', 422, "invalid_request", "temperature"),
        ('{"prompt": "caf\u00e9 \u2603"}'.encode(), 422, "prompt_not_encodable", None),
    ],
)
@pytest.mark.usefixtures("unspent")
def test_bad_bodies(live_api, key, body, status, code, field):  # noqa: PLR0917 - a table's columns
    """Each is refused by its name, and costs nothing."""
    got, _, document = post(live_api, headers=[("X-API-Key", key)], body=body)
    assert (got, document["code"]) == (status, code)
    if field is not None:
        assert [error["field"] for error in document["errors"]] == [field]
    if code == "prompt_not_encodable":
        assert document["detail"] == 'the model has no token for "é", "☃".'


@pytest.mark.usefixtures("unspent")
def test_sizes_and_framing(live_api, key):
    """A megabyte, a chunked body, no length, a lie about the length, another media type."""
    headers = [("X-API-Key", key)]
    megabyte = b'{"prompt": "' + b"a" * 2**20 + b'"}'
    assert post(live_api, headers=headers, body=megabyte)[0] == 413
    chunked = [*headers, ("Transfer-Encoding", "chunked")]
    status, _, document = post(
        live_api, headers=chunked, body=b"10\r\n" + GOOD_BODY + b"\r\n0\r\n\r\n", length=None
    )
    assert (status, document["code"]) == (411, "length_required")
    status, _, document = post(live_api, headers=headers, body=b"", length=None)
    assert (status, document["code"]) == (411, "length_required")
    status, _, document = post(live_api, headers=headers, length=50)
    assert (status, document["code"]) == (400, "bad_request")
    for media_type in ("text/plain", "application/x-www-form-urlencoded", None):
        status, _, document = post(live_api, headers=headers, media_type=media_type)
        assert (status, document["code"]) == (415, "unsupported_media_type")


@pytest.mark.usefixtures("unspent")
def test_methods_and_paths(live_api, key):
    """Wrong methods name the right ones; unknown paths are 404; a redirect is never given."""
    headers = [("X-API-Key", key)]
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        status, got, document = post(live_api, headers=headers, method=method)
        assert (status, document["code"]) == (405, "method_not_allowed"), method
        assert got["allow"] == "POST"
    for path in (
        "/",
        "/generate/",
        "/Generate",
        "/v1",
        "/.env",
        "/%2e%2e/etc/passwd",
    ):
        status, _, document = post(live_api, headers=headers, path=path)
        assert (status, document["code"]) == (404, "not_found"), path


def test_a_missing_scope_is_free_too(live_api):
    """403 names the scope."""
    key = live_api.issue(scopes=("usage:read",))["key"]
    before = live_api.left(key)
    status, _, document = post(live_api, headers=[("X-API-Key", key)])
    assert (status, document["code"]) == (403, "missing_scope")
    assert live_api.left(key) == before


def test_bad_keys_from_one_address_are_throttled(live_api, key):
    """After 30 a minute the next is 429 with its wait; a good key from there is still served."""
    here = live_api.address()
    client_headers = [("X-API-Key", "nonsense"), ("Connection", "close")]
    lines = ["GET /v1/key HTTP/1.1", "Host: api"]
    lines += [f"{name}: {value}" for name, value in (*client_headers, *here.items())]
    request = "\r\n".join(lines).encode() + b"\r\n\r\n"
    statuses = [live_api.server.raw(request)[0] for _ in range(30)]
    assert statuses == [401] * 30
    status, headers, body = live_api.server.raw(request)
    assert (status, json.loads(body)["code"]) == (429, "too_many_failures")
    assert 1 <= int(headers["retry-after"]) <= 60
    good = request.replace(b"nonsense", key.encode())
    assert live_api.server.raw(good)[0] == 200
