"""What stands before every route, in its order, and what each refusal says."""

from __future__ import annotations

import re
from dataclasses import replace
from email.utils import formatdate

import pytest
import structlog

from api.limits.policy import Decision
from auth.errors import (
    AddressNotAllowedError,
    InvalidKeyError,
    KeyRefusal,
    KeyringUnavailableError,
    MalformedDocumentError,
    TenantDisabledError,
    UnknownPlanError,
)
from auth.principal import Rotation, Scope, SecretRole
from auth.secrets import SecretPermissionError
from tests.support.api_bench import GOOD, PRINCIPAL


def code(answer):
    assert answer.content_type == "application/problem+json"
    body = answer.get_json()
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert body["status"] == answer.status_code
    return answer.status_code, body["code"]


def test_every_reason_for_a_refused_key_is_one_answer(bench):
    """Body and headers are the same for each reason, but for the request's id and the date."""
    answers = set()
    for reason in KeyRefusal:
        bench.keyring.answer = InvalidKeyError(reason)
        answer = bench.client.post(
            "/generate", json={}, headers={"X-API-Key": "any", "X-Request-Id": "same-id-0"}
        )
        assert code(answer) == (401, "invalid_key")
        answers.add((answer.data, tuple(sorted(answer.headers.items()))))
    assert len(answers) == 1
    assert bench.limiter.acquired == []


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("X-API-Key", "")],
        [("X-API-Key", GOOD), ("X-API-Key", GOOD)],
        [("X-API-Key", f"{GOOD},{GOOD}")],
        [("Authorization", f"Bearer {GOOD}")],
    ],
)
def test_one_key_in_its_header_or_none(bench, headers):
    """No key, two keys, or a key where this route does not read it: refused alike."""
    answer = bench.client.post("/generate", json={}, headers=headers)
    assert code(answer) == (401, "invalid_key")


def test_the_openai_routes_take_a_bearer_key_but_not_two(bench):
    """`Authorization: Bearer` works where the contract says, and not beside X-API-Key."""
    bearer = {"Authorization": f"Bearer {GOOD}"}
    assert bench.client.get("/v1/models", headers=bearer).status_code == 200
    both = bench.client.get("/v1/models", headers={**bearer, "X-API-Key": GOOD})
    assert code(both) == (401, "invalid_key")


def test_a_key_in_the_url_is_no_key(bench):
    """Keys are read from headers only."""
    assert code(bench.client.post(f"/generate?api_key={GOOD}", json={})) == (401, "invalid_key")


@pytest.mark.parametrize(
    ("method", "path", "field", "message"),
    [
        ("POST", "/generate?dryrun=1", "dryrun", "This parameter is not known"),
        ("POST", "/generate?dry_run=1&dry_run=0", "dry_run", "must be given once"),
        ("POST", "/v1/completions?dry_run=1", "dry_run", "This parameter is not known"),
        ("GET", "/v1/models?page=2", "page", "This parameter is not known"),
        ("GET", "/v1/key?web_copy=true", "web_copy", "This parameter is not known"),
        ("DELETE", "/v1/key/rotation?webcopy=true", "webcopy", "This parameter is not known"),
        ("GET", "/v1/admin/keys?tennant=acme", "tennant", "This parameter is not known"),
        ("GET", "/v1/admin/audit?limit=1&limit=9", "limit", "must be given once"),
    ],
)
def test_a_mistyped_parameter_is_refused_by_name(bench, method, path, field, message):
    """What a caller meant by it is not guessed: nothing is done, generated or charged."""
    body = {"json": {"num_chars": 3}} if method == "POST" else {}
    answer = bench.client.open(path, method=method, headers={"X-API-Key": GOOD}, **body)
    assert code(answer) == (422, "invalid_request")
    assert answer.get_json()["errors"] == [{"field": field, "message": message}]
    assert bench.limiter.acquired == []


def test_a_parameter_that_may_be_a_key_is_not_repeated(bench):
    """Its name is the caller's text, and goes into no answer unless it is harmless."""
    answer = bench.client.get("/v1/key?qg_live_0=1", headers={"X-API-Key": GOOD})
    assert code(answer) == (422, "invalid_request")
    assert "qg_live" not in answer.text


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (AddressNotAllowedError("AAAAAAAAAAAA"), (403, "address_not_allowed")),
        (TenantDisabledError("acme", "AAAAAAAAAAAA"), (403, "tenant_disabled")),
        (UnknownPlanError("shard", "AAAAAAAAAAAA"), (503, "unknown_plan")),
        (KeyringUnavailableError("no shard yet"), (503, "keyring_unavailable")),
    ],
)
def test_other_refusals_of_the_keyring(bench, failure, expected):
    """Each has its own answer; the log's text of it stays inside."""
    bench.keyring.answer = failure
    answer = bench.generate()
    assert code(answer) == expected
    assert "AAAAAAAAAAAA" not in answer.text
    assert "shard" not in answer.text


def test_a_missing_scope_is_named(bench):
    """403 names the scope that the route needs; nothing is charged."""
    bench.keyring.answer = replace(PRINCIPAL, scopes=frozenset({Scope.USAGE_READ}))
    answer = bench.generate()
    assert code(answer) == (403, "missing_scope")
    assert "generate" in answer.get_json()["detail"]
    assert bench.limiter.acquired == []


def test_body_rules_come_before_the_key(bench):
    """A body that will not be read is refused whoever sends it."""
    client = bench.client
    chunked = client.post("/generate", headers={"Transfer-Encoding": "chunked"}, data=b"{}")
    assert code(chunked) == (411, "length_required")
    large = client.post("/generate", data=b"x" * (16 * 1024 + 1), content_type="application/json")
    assert code(large) == (413, "body_too_large")
    unsized = client.open("/generate", method="POST", content_type="application/json")
    assert code(unsized) in {(411, "length_required"), (401, "invalid_key")}


def test_another_media_type_is_refused(bench):
    """Forms and plain text are 415 and cost nothing."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = bench.client.post(
            "/generate", data=b"{}", content_type=kind, headers={"X-API-Key": GOOD}
        )
        assert code(answer) == (415, "unsupported_media_type")
    assert bench.limiter.acquired == []


def test_unknown_paths_and_methods(bench):
    """404 and 405 are problems too; 405 says what is allowed; nothing redirects."""
    assert code(bench.client.get("/nothing")) == (404, "not_found")
    assert code(bench.client.post("//generate", json={})) == (404, "not_found")
    assert code(bench.client.post("/generate/", json={})) == (404, "not_found")
    wrong = bench.client.get("/generate")
    assert code(wrong) == (405, "method_not_allowed")
    assert wrong.headers["Allow"] == "POST"
    assert code(bench.client.open("/generate", method="TRACE")) == (405, "method_not_allowed")
    assert code(bench.client.options("/generate")) == (405, "method_not_allowed")


def test_request_ids(bench):
    """A harmless inbound id is kept; any other is replaced by one of ours."""
    kept = bench.client.get("/health", headers={"X-Request-Id": "abc-12345"})
    assert kept.headers["X-Request-Id"] == "abc-12345"
    for bad in ("short", "x" * 65, "has space 123", "semi;colon1"):
        made = bench.client.get("/health", headers={"X-Request-Id": bad}).headers["X-Request-Id"]
        assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_every_answer_carries_the_fixed_headers(bench):
    """Also refusals: no sniffing, no caching, no referrer."""
    for answer in (bench.client.get("/health"), bench.client.get("/nope"), bench.generate()):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_draining_refuses_work_but_answers_health(bench):
    """New work is 503 draining with Retry-After before its key is looked at; /ready is 503."""
    bench.app.extensions["quillgate"].lifecycle.drain(0)
    answer = bench.client.post("/generate", json={})
    assert code(answer) == (503, "draining")
    assert answer.headers["Retry-After"] == "1"
    assert bench.client.get("/health").status_code == 200
    assert bench.client.get("/ready").status_code == 503


def test_a_newer_keyring_is_obeyed_by_the_same_request(bench):
    """A key revoked since the keyring was read is 401 at once, and what was charged goes back."""
    bench.limiter.keyring_version = 2
    bench.keyring.newer = InvalidKeyError(KeyRefusal.REVOKED)
    assert code(bench.generate(num_chars=5)) == (401, "invalid_key")
    assert bench.limiter.settled == [(0, "refused")]
    assert bench.engine.submitted == []


def test_a_fault_while_the_key_is_checked_again_costs_nothing(bench):
    """A keyring that fails in a way nobody foresaw leaves no slot taken and nothing charged."""
    bench.limiter.keyring_version = 2
    bench.keyring.newer = RuntimeError("a fault")
    assert code(bench.generate(num_chars=5)) == (500, "internal_error")
    assert bench.limiter.settled == [(0, "refused")]


def test_a_changed_plan_is_obeyed_by_the_same_request(bench):
    """The request is charged again by the record as it is now; the first charge goes back."""
    bench.limiter.keyring_version = 2
    heavier = replace(PRINCIPAL.plan, weight=9)
    bench.keyring.newer = replace(PRINCIPAL, plan=heavier, keyring_version=2)
    assert bench.generate(num_chars=5).status_code == 200
    assert bench.limiter.settled == [(0, "refused"), (5, "length")]
    assert bench.engine.submitted[0].request.weight == 9


def test_a_newer_keyring_without_a_change_costs_no_second_charge(bench):
    """Only a change of the caller's own record makes the request start over."""
    bench.limiter.keyring_version = 2
    bench.keyring.newer = replace(PRINCIPAL, keyring_version=2)
    assert bench.generate(num_chars=5).status_code == 200
    assert bench.limiter.settled == [(5, "length")]


def test_the_old_secret_is_told_when_it_ends(bench):
    """While a rotation is under way the old secret's answers carry Deprecation and Sunset."""
    rotation = Rotation(started_at=1_700_000_000, deadline=1_700_600_000, grace_seconds=3600)
    bench.keyring.answer = replace(PRINCIPAL, secret_role=SecretRole.OLD, rotation=rotation)
    bench.limiter.sunset_at = 1_700_003_600
    answer = bench.generate(num_chars=1)
    assert answer.headers["Deprecation"] == "@1700000000"
    assert answer.headers["Sunset"] == "Tue, 14 Nov 2023 23:13:20 GMT"


def test_a_secret_that_is_over_is_refused_like_one_that_never_was(bench):
    """The 401 of a rotated-out secret says nothing of the rotation: the same headers."""
    unknown = bench.client.post("/generate", json={}, headers={"X-API-Key": "unknown"})
    rotation = Rotation(started_at=1_700_000_000, deadline=1_700_600_000, grace_seconds=0)
    bench.keyring.answer = replace(PRINCIPAL, secret_role=SecretRole.OLD, rotation=rotation)
    bench.limiter.sunset_at = 1_700_000_000
    bench.limiter.refusal = Decision(lease=None, code="invalid_key", sunset_at=1_700_000_000)
    over = bench.generate(num_chars=1)
    assert code(over) == (401, "invalid_key")
    assert set(over.headers.keys()) == set(unknown.headers.keys())


def test_a_platforms_token_is_no_second_key(bench):
    """Cloud Run's own identity token may stand beside the key."""
    token = {"Authorization": "Bearer eyJhbGciOi"}
    answer = bench.client.post(
        "/generate", json={"num_chars": 1}, headers={**token, "X-API-Key": GOOD}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("name", ["qg_live_" + "a" * 12 + "_", "my secret prompt", "x" * 40])
def test_a_field_name_that_may_be_a_key_or_a_prompt_is_not_repeated(bench, name):
    """An unknown field is refused by name unless the name itself may be what nobody should see."""
    answer = bench.client.post("/generate", json={name: 1}, headers={"X-API-Key": GOOD})
    assert code(answer) == (422, "invalid_request")
    assert name not in answer.text
    named = bench.client.post("/generate", json={"temprature": 1}, headers={"X-API-Key": GOOD})
    assert named.json["errors"][0]["field"] == "temprature"


def test_bad_keys_from_one_address_are_throttled(bench):
    """After 30 in a minute even the next is 429 with a wait; a good key is still served."""
    for _ in range(30):
        assert code(bench.client.post("/generate", json={})) == (401, "invalid_key")
    answer = bench.client.post("/generate", json={})
    assert code(answer) == (429, "too_many_failures")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert bench.generate(num_chars=1).status_code == 200


def test_trusted_hops_decide_the_address(make_bench):
    """X-Forwarded-For is believed for as many hops as are configured, from the right."""
    behind = make_bench(TRUSTED_PROXY_HOPS="1")
    for i in range(30):
        forged = {"X-Forwarded-For": f"10.0.0.{i}, 192.0.2.1"}
        assert behind.client.post("/generate", json={}, headers=forged).status_code == 401
    last = {"X-Forwarded-For": "10.9.9.9, 192.0.2.1"}
    assert behind.client.post("/generate", json={}, headers=last).status_code == 429
    other = {"X-Forwarded-For": "192.0.2.1, 192.0.2.2"}
    assert behind.client.post("/generate", json={}, headers=other).status_code == 401


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3:5555", "10.1.2.3"),
        ("[2001:db8::7]:5555", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:10.1.2.3", "::ffff:10.1.2.3"),
        ("10.1.2.3:port", "unknown"),
        ("[qg_live_0]:5555", "unknown"),
    ],
)
def test_an_address_may_come_with_a_port(make_bench, written, read):
    """A proxy that writes the port does not make a stranger of everybody behind it."""
    bench = make_bench(TRUSTED_PROXY_HOPS="1")
    headers = {"X-API-Key": GOOD, "X-Forwarded-For": written}
    assert bench.client.get("/v1/models", headers=headers).status_code == 200
    assert bench.keyring.addresses[-1] == read


def test_forwarded_for_is_ignored_without_a_proxy(bench):
    """By default nobody can choose the address that their failures are counted by."""
    for i in range(30):
        forged = {"X-Forwarded-For": f"10.0.0.{i}"}
        bench.client.post("/generate", json={}, headers=forged)
    assert bench.client.post("/generate", json={}).status_code == 429


def test_no_cors_headers_unless_configured(bench):
    """By default no origin is told anything."""
    answer = bench.client.get("/health", headers={"Origin": "https://app.example.com"})
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("more", ["", ",https://other.example.com"])
def test_a_cache_cannot_give_one_origins_answer_to_another(make_bench, more):
    """Every answer varies by Origin, and is open to none that did not ask."""
    client = make_bench(CORS_ORIGINS=f"https://app.example.com{more}").client
    for origin, told in (
        (None, None),
        ("https://app.example.com", "https://app.example.com"),
        ("https://evil.example.com", None),
    ):
        headers = {} if origin is None else {"Origin": origin}
        answer = client.get("/health", headers=headers)
        assert answer.headers.get("Access-Control-Allow-Origin") == told
        assert answer.headers.getlist("Vary") == ["Origin"]


def test_cors_for_exact_origins(make_bench):
    """A configured origin may preflight without a key and read the limit headers; others not."""
    bench = make_bench(CORS_ORIGINS="https://app.example.com")
    preflight = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key,content-type",
    }
    answer = bench.client.options("/generate", headers=preflight)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    real = bench.client.post(
        "/generate",
        json={"num_chars": 1},
        headers={"X-API-Key": GOOD, "Origin": "https://app.example.com"},
    )
    assert "Retry-After" in real.headers["Access-Control-Expose-Headers"]
    other = bench.client.options(
        "/generate", headers={**preflight, "Origin": "https://evil.example.com"}
    )
    assert "Access-Control-Allow-Origin" not in other.headers


@pytest.mark.parametrize(
    ("days", "told"), [(None, []), (15, []), (14, [14]), (4, [14]), (3, [3]), (1, [1])]
)
def test_a_key_that_expires_soon_says_so_on_every_answer_and_once_in_the_log(bench, days, told):
    """14, 3 and 1 days before: a header for the caller, one line for the operator."""
    now = bench.app.extensions["quillgate"].clock()
    expires_at = None if days is None else int(now + days * 86_400 + (days == 15))
    bench.keyring.answer = replace(PRINCIPAL, expires_at=expires_at)
    with structlog.testing.capture_logs() as lines:
        answers = [bench.client.get("/v1/models", headers={"X-API-Key": GOOD}) for _ in range(2)]
    expected = [formatdate(expires_at, usegmt=True)] if told else []
    for answer in answers:
        assert answer.headers.getlist("X-API-Key-Expires") == expected
    soon = [line for line in lines if line["event"] == "key.expires_soon"]
    assert [line["within_days"] for line in soon] == told


def test_a_stale_keyring_is_seen_in_ready_and_in_the_metrics(bench):
    """How old, how old it may get, and whether the newest could be read; not why."""
    bench.keyring.age_seconds, bench.keyring.problem = 312.4, "secret quillgate-keyring-001: away"
    ready = bench.client.get("/ready")
    assert (ready.status_code, ready.get_json()["checks"]["keyring"]) == (200, "ok")
    assert ready.get_json()["keyring"] == {
        "age_seconds": 312,
        "max_age_seconds": 86_400,
        "stale": True,
    }
    assert "away" not in ready.text
    registry = bench.app.extensions["quillgate"].metrics.registry
    shown = {
        name: registry.get_sample_value(f"quillgate_keyring_{name}")
        for name in ("age_seconds", "max_age_seconds", "stale")
    }
    assert shown == {"age_seconds": 312.4, "max_age_seconds": 86_400, "stale": 1}
    bench.keyring.age_seconds = float("inf")
    assert bench.client.get("/ready").get_json()["keyring"]["age_seconds"] is None


@pytest.mark.parametrize(
    "failure", [SecretPermissionError("q-1: denied"), MalformedDocumentError("q-1 is damaged")]
)
def test_an_admin_hears_what_the_secret_store_refused(bench, monkeypatch, failure):
    """A change that could not be made is no failure to check keys, and no unforeseen one."""

    def refuse(_call):
        raise failure

    monkeypatch.setattr("api.routes.admin.acting_admin", refuse)
    bench.keyring.answer = replace(PRINCIPAL, scopes=frozenset({Scope.ADMIN}))
    answer = bench.client.get("/v1/admin/keys", headers={"X-API-Key": GOOD})
    assert answer.status_code == 503
    assert str(failure) in answer.get_json()["detail"]
    assert "secrets check" in answer.get_json()["detail"]
