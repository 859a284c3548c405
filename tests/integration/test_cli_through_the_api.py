"""`python -m auth --api`: the same commands and answers, through a real instance."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import urllib.error
from collections.abc import Callable
from email.message import Message

import pytest

from auth.__main__ import main
from auth.api_key import PATTERN, mint
from auth.config import SettingsError
from auth.errors import AdminRefusedError
from auth.remote_call import Remote
from auth.users import is_password
from tests.support.cli import ROOT
from tests.support.live_api import LiveApi

Ran = tuple[int, str, str]


@pytest.fixture
def cli(live_api: LiveApi, monkeypatch, capsys) -> Callable[..., Ran]:
    """Return a function that runs one command through the API, with no store at hand."""
    monkeypatch.setenv("QUILLGATE_HOME", "/nonexistent")
    monkeypatch.setenv("QUILLGATE_API_URL", live_api.server.url)
    monkeypatch.setenv("QUILLGATE_ADMIN_KEY", live_api.issue(scopes=("admin",))["key"])

    def run(*words: str) -> Ran:
        capsys.readouterr()  # what the admin beside us logged
        status = main(list(words))
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def answer(ran: Ran):
    status, out, err = ran
    assert (status, err) == (0, "")
    return json.loads(out)


def test_a_tenant_and_its_keys_are_administered_without_the_stores(live_api, cli):
    """Every command that the API can do, from a new tenant to a revoked key."""
    tenant = live_api.tenant()
    name = f"{tenant}-remote"
    assert answer(cli("tenants", "add", name, "--plan", "free", "--json"))["state"] == "active"
    assert answer(cli("tenants", "set-plan", name, "partner", "--json"))["plan"] == "partner"
    issued = answer(
        cli("keys", "issue", "--tenant", name, "--name", "ci", "--expires", "10d", "--json")
    )
    assert PATTERN.fullmatch(issued["key"])
    assert issued["expires_in_days"] == 14
    key_id = issued["key_id"]
    assert live_api.server.post("/generate", issued["key"], num_chars=1).status_code == 200
    view = answer(cli("keys", "set", key_id, "--expires", "never", "--name", "ci 2", "--json"))
    assert (view["expires_at"], view["name"]) == (None, "ci 2")
    rotated = answer(cli("keys", "rotate", key_id, "--deadline", "1h", "--json"))
    assert rotated["rotation"]["old_secret_ends_at"] > 0
    assert answer(cli("keys", "cancel-rotation", key_id, "--json"))["rotation"] is None
    assert [one["key_id"] for one in answer(cli("keys", "list", "--tenant", name, "--json"))] == [
        key_id
    ]
    limited = answer(cli("keys", "set-limits", key_id, "requests_per_minute=7", "--json"))
    assert limited["limits"] == {"requests_per_minute": 7}
    capped = answer(cli("tenants", "set-caps", name, "chars_per_day=9000", "--json"))
    assert capped["caps"] == {"chars_per_day": 9000}
    assert cli("tenants", "disable", name)[0] == 0
    assert live_api.server.post("/generate", issued["key"], num_chars=1).status_code == 403
    assert cli("tenants", "enable", name)[0] == 0
    assert cli("keys", "revoke", key_id, "--reason", "leaked")[0] == 0
    assert live_api.server.post("/generate", issued["key"], num_chars=1).status_code == 401
    records = answer(cli("audit", "list", "--limit", "1", "--json"))
    assert (records[0]["action"], records[0]["note"]) == ("key.revoke", "leaked")
    assert answer(cli("audit", "verify", "--json"))["whole"] is True


def test_lists_go_row_by_row_and_say_what_became_of_each(live_api, cli, tmp_path):
    """A row that is refused does not take the others with it, and the status says so."""
    tenant = live_api.tenant()
    rows = tmp_path / "keys.csv"
    rows.write_text(f"tenant,name,scopes\n{tenant},a,generate\n{tenant},b,root\n")
    status, out, err = cli("keys", "issue-many", str(rows))
    assert (status, err) == (1, "refused: 1 of 2 rows were not done\n")
    head, first, second = out.splitlines()
    assert head == "key_id,tenant,name,key,state,error"
    assert live_api.server.post("/generate", first.split(",")[3], num_chars=1).status_code == 200
    assert "choose from generate" in second
    revoked = tmp_path / "revoke.csv"
    revoked.write_text(f"key_id,reason\n{first.split(',')[0]},leaked\n")
    assert cli("keys", "revoke-many", str(revoked))[0] == 0
    assert live_api.server.post("/generate", first.split(",")[3], num_chars=1).status_code == 401


def test_web_users_are_kept_without_the_stores(live_api, cli, monkeypatch):
    """From the first password to another key: each command, with the answers of the stores'."""
    key = live_api.issue()
    tenant, name = key["tenant"], f"joan-{key['tenant']}"
    added = answer(cli("users", "add", name, "--tenant", tenant, "--json"))
    assert (len(added["password"]), added["must_change_password"]) == (20, True)
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
    words = ("users", "set-password", name, "--password-stdin", "--must-change", "--json")
    changed = answer(cli(*words))
    assert ("password" in changed, changed["must_change_password"]) == (False, True)
    hashed = live_api.admin._context.web_users()[name].password_hash
    assert is_password("correct horse", hashed)
    assert answer(cli("users", "set-role", name, "admin", "--json"))["roles"] == ["admin", "user"]
    assert answer(cli("users", "disable", name, "--json"))["state"] == "disabled"
    assert answer(cli("users", "enable", name, "--json"))["state"] == "active"
    monkeypatch.setattr("sys.stdin", io.StringIO(key["key"] + "\n"))
    assert answer(cli("users", "assign-key", name, "--json"))["key_id"] == key["key_id"]
    listed = {one["user"]: one for one in answer(cli("users", "list", "--json"))}
    assert listed[name] == live_api.admin.users.show(name)
    status, _, err = cli("users", "set-role", "nobody", "user")
    assert (status, err) == (1, "refused: there is no user nobody. (not_found)\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    status, _, err = cli("users", "set-password", name, "--password-stdin")
    assert (status, "at least 10 characters" in err) == (1, True)


def test_usage_is_exported_without_the_stores(live_api, cli):
    """The same rows as on the stores, of one tenant and of some days alone if so asked."""
    key = live_api.issue()
    assert live_api.server.post("/generate", key["key"], num_chars=3).status_code == 200
    asked = ("usage", "export", "--tenant", key["tenant"])
    (row,) = answer(cli(*asked, "--json"))
    assert (row["key_id"], row["chars"], row["requests"]) == (key["key_id"], 3, 1)
    assert [row] == live_api.admin.usage.export(key["tenant"])
    assert answer(cli(*asked, "--from", row["day"], "--to", row["day"], "--json")) == [row]
    assert answer(cli(*asked, "--to", "2020-01-01", "--json")) == []
    assert cli(*asked, "--csv")[1].splitlines()[1].startswith(f"{row['day']},{key['tenant']},")
    assert cli("usage", "export", "--tenant", "nobody")[0] == 1


def limited(code: str, seconds: str) -> urllib.error.HTTPError:
    body = json.dumps({"detail": "Too often.", "code": code}).encode()
    headers = Message()
    headers["Retry-After"] = seconds
    return urllib.error.HTTPError("https://a", 429, "", headers, io.BytesIO(body))


@pytest.mark.parametrize(
    ("answers", "slept", "outcome"),
    [
        ([limited("rate_limited", "7"), io.BytesIO(b'{"tenants": []}')], [7], []),
        ([limited("rate_limited", "7") for _ in range(4)], [7, 7, 7], "Too often"),
        ([limited("rate_limited", "3600")], [], "Too often"),
        ([limited("too_many_failures", "7")], [], "Too often"),
        ([TimeoutError("no answer")], [], "did not answer"),
    ],
)
def test_a_long_list_waits_for_the_rate_at_which_a_key_may_ask(
    monkeypatch, answers, slept, outcome
):
    """What was refused for its rate alone was not begun: it is asked again when the API says."""
    waited: list[float] = []
    remote = Remote("https://api.example.com", mint("live").reveal(), sleep=waited.append)

    def next_answer(*_, **__):
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(remote._opener, "open", next_answer)
    if isinstance(outcome, str):
        with pytest.raises(AdminRefusedError, match=outcome):
            remote.ask("/tenants")
    else:
        assert remote.ask("/tenants")["tenants"] == outcome
    assert (waited, answers) == (slept, [])


def test_a_refusal_is_the_apis_sentence(live_api, cli, monkeypatch):
    """What is refused there is refused here, in one line, with the status for scripts."""
    status, out, err = cli("keys", "show", "AAAAAAAAAAAA")
    assert (status, out) == (1, "")
    assert err == "refused: there is no key AAAAAAAAAAAA. (not_found)\n"
    for words in ("pepper status", "secrets check", "usage rebuild --from-log /nonexistent"):
        status, _, err = cli(*words.split())
        assert (status, "run it without --api" in err) == (1, True)
    monkeypatch.setenv("QUILLGATE_ADMIN_KEY", live_api.issue(scopes=("generate",))["key"])
    status, _, err = cli("tenants", "list")
    assert (status, "admin" in err) == (1, True)


def test_an_api_that_is_not_there_is_one_line(cli):
    """The way out is in it; `--api` stands before the environment."""
    status, out, err = cli("--api", "http://127.0.0.1:9", "tenants", "list")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "http://127.0.0.1:9 did not answer" in err


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("http://api.example.com", "must be https"),
        ("ftp://api.example.com", "must be a URL"),
        ("api.example.com", "must be a URL"),
    ],
)
def test_a_key_is_sent_in_clear_to_this_machine_alone(url, match):
    """Over a network it goes through TLS or not at all."""
    with pytest.raises(SettingsError, match=match):
        Remote(url, mint("live").reveal())
    with pytest.raises(SettingsError, match="QUILLGATE_ADMIN_KEY"):
        Remote("https://api.example.com", "not a key")


def test_it_is_a_process_like_any_other(live_api):
    """With nothing but the two variables, as an admin's laptop has them."""
    key = live_api.issue(scopes=("admin",))["key"]
    done = subprocess.run(
        [sys.executable, "-m", "auth", "tenants", "list", "--api", live_api.server.url, "--json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "QUILLGATE_ADMIN_KEY": key},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)
