"""`python -m auth`: what it prints, what it answers with --json, and its exit statuses."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from auth.__main__ import main
from auth.api_key import PATTERN, parse
from auth.config import AuthSettings
from auth.documents import Documents
from auth.stores import open_secrets

ROOT = Path(__file__).parents[3]


@pytest.fixture
def cli(tmp_path, redis_url, monkeypatch, capsys, quick_passwords):
    """Return a function that runs one command and returns status, stdout and stderr."""
    monkeypatch.setenv("QUILLGATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REDIS_URL", redis_url)
    for name in ("SECRETS", "SECRETS_PREFIX", "KEY_LABEL", "KEYRING_SHARDS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KEYRING_SHARDS", "2")

    def run(*words: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            status = main(list(words))
        except SystemExit as exc:
            status = int(exc.code)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def acme(cli):
    assert cli("tenants", "add", "acme", "--plan", "standard")[0] == 0
    return cli


def answer(ran) -> dict:
    status, out, err = ran
    assert (status, said(err)) == (0, [])
    return json.loads(out)


def said(err: str) -> list[str]:
    """Return what is on stderr but audit records."""
    return [one for one in err.splitlines() if '"message": "audit"' not in one]


def issue(cli, *more: str) -> dict:
    return answer(cli("keys", "issue", "--tenant", "acme", "--name", "ci", "--json", *more))


def test_the_examples_of_the_contract_work(acme):
    """Every line of contract section 7's examples, as it stands there."""
    line = (
        "keys issue --tenant acme --name ci --scopes generate,usage:read,key:rotate --expires 90d"
    )
    key = answer(acme(*line.split(), "--json"))
    assert PATTERN.fullmatch(key["key"])
    rotated = answer(acme(*f"keys rotate {key['key_id']} --deadline 7d --grace 1h --json".split()))
    assert parse(rotated["key"]).key_id == key["key_id"]
    assert rotated["rotation"]["deadline"] - rotated["rotation"]["started_at"] == 7 * 86_400
    assert rotated["rotation"]["grace_seconds"] == 3600
    revoked = answer(acme("keys", "revoke", key["key_id"], "--reason", "leaked", "--json"))
    assert revoked["state"] == "revoked"
    assert "key" not in revoked


def test_json_has_the_contracts_field_names(acme):
    """A program can rely on them from every command that tells of a key."""
    fields = (
        *("tenant", "key_id", "name", "plan", "scopes", "expires_at", "allowed_cidrs"),
        *("created_at", "last_used_at", "state", "rotation"),
    )
    key = issue(acme)
    assert set(fields) | {"key"} <= set(key)
    for listed in answer(acme("keys", "list", "--json")):
        assert set(fields) <= set(listed)
        assert "key" not in listed


def test_a_key_is_printed_with_one_line_that_it_is_shown_once(acme):
    """A person is told before it is too late."""
    status, out, err = acme("keys", "issue", "--tenant", "acme", "--name", "ci")
    assert (status, said(err)) == (0, [])
    assert len(PATTERN.findall(out)) == 1
    assert sum("only this once" in line for line in out.splitlines()) == 1
    assert "only this once" not in acme("keys", "list")[1]


def test_lists_are_tables_with_a_line_for_each(acme):
    """Head, then one line each; nothing yet is said as such."""
    assert acme("keys", "list")[1].splitlines()[1] == "(none)"
    issue(acme)
    head, line = acme("keys", "list")[1].splitlines()
    assert head.split()[:2] == ["KEY", "ID"]
    assert "acme" in line
    assert acme("tenants", "list")[1].count("\n") == 2
    assert "standard" in acme("tenants", "show", "acme")[1]


@pytest.mark.parametrize(
    "words",
    [
        "tenants add acme",
        "tenants show nobody",
        "keys issue --tenant nobody --name x",
        "keys issue --tenant acme --name x --scopes root",
        "keys issue --tenant acme --name x --expires 2001-01-01",
        "keys rotate AAAAAAAAAAAA",
        "keys set AAAAAAAAAAAA",
        "users set-password nobody",
    ],
)
def test_a_refusal_is_status_1_with_one_line_on_stderr(acme, words):
    """Scripts see the status, people the reason, stdout stays empty."""
    status, out, err = acme(*words.split())
    assert (status, out) == (1, "")
    assert err.startswith("refused: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        "",
        "keys",
        "keys issue --tenant acme",
        "keys rotate X --deadline soon",
        "keys issue --tenant acme --name x --expires later",
        "keys list --unused-days 0",
        "users add x --tenant acme --role king",
        "frobnicate",
    ],
)
def test_wrong_usage_is_status_2(cli, words):
    """Nothing is done when a command cannot be understood."""
    status, out, err = cli(*words.split())
    assert (status, out) == (2, "")
    assert "usage:" in err


def test_a_bad_setting_is_status_1_with_its_name(cli, monkeypatch):
    """The environment is checked before anything is opened."""
    monkeypatch.setenv("SECRETS", "vault")
    status, _, err = cli("tenants", "list")
    assert status == 1
    assert "SECRETS" in err


def test_a_password_comes_from_stdin_or_is_generated(acme):
    """Given, it is not repeated; generated, it is printed once."""
    given = acme(
        "users", "add", "ada", "--tenant", "acme", "--password-stdin", stdin="ten chars ok\n"
    )
    assert given[0] == 0
    assert "ten chars ok" not in given[1] + given[2]
    generated = answer(acme("users", "set-password", "ada", "--json"))
    assert len(generated["password"]) >= 16
    assert generated["must_change_password"] is True
    kept = answer(acme("users", "set-password", "ada", "--no-must-change", "--json"))
    assert kept["must_change_password"] is False
    assert "only this once" in acme("users", "add", "bob", "--tenant", "acme")[1]


def test_a_users_key_is_assigned_from_stdin(acme):
    """A key is never on a command line, where other users of the machine would see it."""
    key = issue(acme)
    acme("users", "add", "ada", "--tenant", "acme")
    view = answer(acme("users", "assign-key", "ada", "--json", stdin=key["key"] + "\n"))
    assert view["key_id"] == key["key_id"]


def test_what_a_key_may_do_is_set_and_taken_back(acme):
    """never, the tenant's plan and an empty list of networks can all be said."""
    key_id = issue(acme, "--expires", "30d", "--plan", "partner", "--cidrs", "10.0.0.0/8")["key_id"]
    view = answer(
        acme(
            "keys", "set", key_id, "--expires", "never", "--plan", "tenant", "--cidrs", "", "--json"
        )
    )
    assert (view["expires_at"], view["plan"], view["allowed_cidrs"]) == (None, "standard", [])


def test_the_audit_is_listed_verified_and_found_broken(acme, tmp_path):
    """A chain that does not hold is status 1, naming the record."""
    issue(acme)
    records = answer(acme("audit", "list", "--json"))
    assert [one["action"] for one in records] == ["tenant.add", "key.issue"]
    assert answer(acme("audit", "list", "--limit", "1", "--json")) == records[1:]
    assert answer(acme("audit", "verify", "--json"))["whole"] is True
    store = open_secrets(AuthSettings.from_env())
    Documents(store).update("quillgate-audit", _with_first_record_changed)
    status, _, err = acme("audit", "verify")
    assert status == 1
    assert "record 1 was changed" in err


def test_each_audit_record_is_a_line_of_the_log_too(acme, monkeypatch):
    """Whole as JSON, for a collector; short at a terminal; nothing of a command that only reads."""
    _, out, err = acme("keys", "issue", "--tenant", "acme", "--name", "ci", "--json")
    key, lines = json.loads(out), [json.loads(one) for one in err.splitlines()]
    record = answer(acme("audit", "list", "--json"))[-1]
    assert len(lines) == 1
    assert lines[0].items() >= {**record, "message": "audit", "severity": "INFO"}.items()
    assert key["key"][21:60] not in err
    monkeypatch.setenv("LOG_FORMAT", "console")
    _, _, err = acme("keys", "revoke", key["key_id"], "--reason", "leaked")
    assert len(err.splitlines()) == 1
    assert f"number=3 subject={key['key_id']}" in err
    assert acme("audit", "verify")[2] == ""
    monkeypatch.setenv("LOG_FORMAT", "yes")
    assert acme("audit", "verify")[::2] == (
        1,
        "refused: LOG_FORMAT must be one of json, console, not 'yes'\n",
    )


def test_a_key_that_was_pasted_in_a_wrong_place_is_not_repeated(acme):
    """As an id, a reason or a name: refused in a sentence that shows nothing of it."""
    key = issue(acme)
    for words in [
        ("keys", "revoke", key["key"]),
        ("keys", "show", key["key"]),
        ("keys", "revoke", key["key_id"], "--reason", f"leaked: {key['key']}"),
        ("keys", "set", key["key_id"], "--name", f"was {key['key']}"),
        ("keys", "issue", "--tenant", "acme", "--name", key["key"][:50]),
    ]:
        status, out, err = acme(*words)
        assert (status, out) == (1, "")
        assert key["key"][21:40] not in err
    assert answer(acme("keys", "show", key["key_id"], "--json"))["state"] == "active"


def _with_first_record_changed(document):
    records = [dict(one) for one in document.body["records"]]
    records[0]["actor"] = "cli:somebody-else"
    return replace(document, body={**document.body, "records": records})


def test_rights_are_proven(acme):
    """`secrets check` is status 0 when nothing lacks."""
    assert all(one["missing"] == [] for one in answer(acme("secrets", "check", "--json")))
    assert acme("pepper", "rotate")[0] == 0


def test_it_runs_from_nothing_with_its_own_redis(tmp_path):
    """With no setting at all: secrets in files, an embedded Redis, both under the home."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("REDIS_URL", "SECRETS", "SECRETS_PREFIX")
    } | {"QUILLGATE_HOME": str(tmp_path / "home")}
    ran = subprocess.run(
        [sys.executable, "-m", "auth", "tenants", "add", "acme", "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, said(ran.stderr)) == (0, [])
    assert json.loads(ran.stdout)["tenant"] == "acme"
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0
