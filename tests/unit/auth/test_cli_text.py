"""`python -m auth` without --json: every command answers a person, none with a traceback."""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auth.__main__ import main
from auth.api_key import mint
from auth.cli_commands import _text_of
from auth.cli_parser import parser
from auth.csv_rows import revocations
from auth.errors import AdminRefusedError
from auth.ledger import SETTLED

ROOT = Path(__file__).parents[3]

# In an order in which each can be done; what is in braces is made beforehand.
SESSION = (
    "tenants list",
    "tenants show acme",
    "tenants set-plan acme partner",
    "tenants set-caps acme chars_per_month=1000000",
    "tenants disable acme",
    "tenants enable acme",
    "keys issue --tenant acme --name text",
    "keys issue-many {new}",
    "keys list",
    "keys show {key}",
    "keys set {key} --name other",
    "keys set-limits {key} chars_per_day=5000",
    "keys rotate {key}",
    "keys cancel-rotation {key}",
    "keys revoke {spare} --reason leaked",
    "keys revoke-many {old}",
    "users add mary --tenant acme",
    "users list",
    "users set-password mary",
    "users set-role mary admin",
    "users assign-key mary",
    "users disable mary",
    "users enable mary",
    "pepper status",
    "pepper rotate",
    "pepper retire --force",
    "audit list",
    "audit verify",
    "failures",
    "usage rebuild --from-log {log}",
    "usage export",
    "secrets check",
    "secrets grants",
)


def commands(top: argparse.ArgumentParser, said: str = "") -> Iterator[str]:
    """Return every command that the grammar knows."""
    deeper = [one for one in top._actions if isinstance(one, argparse._SubParsersAction)]
    if not deeper:
        yield said.strip()
    for one in deeper:
        for name, under in one.choices.items():
            yield from commands(under, f"{said} {name}")


@pytest.fixture
def run(tmp_path, redis_url, monkeypatch, capsys, quick_passwords) -> Callable[..., str]:
    """Return a function that runs a command, which must end well, and returns what it printed."""
    monkeypatch.setenv("QUILLGATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("KEYRING_SHARDS", "2")
    for name in ("SECRETS", "SECRETS_PREFIX", "KEY_LABEL"):
        monkeypatch.delenv(name, raising=False)

    def one(line: str, stdin: str = "") -> str:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = main(line.split())
        printed = capsys.readouterr()
        assert status == 0, f"{line}: {printed.err}"
        return printed.out

    return one


def test_every_command_answers_in_text(run, tmp_path):
    """Each command of the grammar is run once; each prints lines for a person, and no dict."""
    assert run("tenants add acme --plan standard")
    known = {" ".join(line.split()[:2]) for line in SESSION} | {"tenants add"}
    assert set(commands(parser(0))) == known

    issued = [json.loads(run(f"keys issue --tenant acme --name k{n} --json")) for n in range(4)]
    key, spare, fresh, _ = (one["key_id"] for one in issued)
    settled = {
        "message": SETTLED,
        "tenant": "acme",
        "key_id": key,
        "lease_id": "a.40.300000",
        "admitted_at_ms": 1_795_000_000_000,
        "charged_chars": 40,
    }
    files = {
        "new": "tenant,name,scopes\nacme,many,generate\n",
        "old": f"key_id,reason\n{fresh},leaked\n",
        "log": json.dumps(settled) + "\n",
    }
    names = {"key": key, "spare": spare}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        names[name] = str(tmp_path / name)
    for line in SESSION:
        stdin = issued[3]["key"] if "assign-key" in line else ""
        shown = run(line.format(**names), stdin)
        assert shown.strip(), line
        assert not re.search(r"[{}]", shown), f"{line}: {shown}"


def test_a_ledger_rebuilt_says_how_much_it_found(run, tmp_path):
    """The answer's `keys` is a number here, and a table in `tenants show`."""
    run("tenants add acme")
    log = tmp_path / "log.jsonl"
    log.write_text("")
    shown = run(f"usage rebuild --from-log {log}")
    assert re.search(r"^keys +0$", shown, re.MULTILINE)
    assert "KEY ID" in run("tenants show acme")


def test_what_works_through_the_api_is_what_the_documents_say(monkeypatch, capsys, tmp_path):
    """docs/deploy.md's table: asked of an API that nobody serves, a command either tries to reach
    it or says that the API cannot do that."""
    text = (ROOT / "docs" / "deploy.md").read_text()
    rows = dict(
        re.findall(r"^\| (through the API|directly only)[^|]*\| (.*) \|$", text, re.MULTILINE)
    )
    told = {row: re.findall(r"`([a-z ]+?)(?: \.\.\.)?`", cell) for row, cell in rows.items()}
    monkeypatch.setenv("QUILLGATE_ADMIN_KEY", mint("live").reveal())
    monkeypatch.setattr(sys, "stdin", io.StringIO("x\n"))
    for name, held in (
        ("new", "tenant,name\na,b\n"),
        ("old", "key_id\nAAAAAAAAAAAA\n"),
        ("log", ""),
    ):
        (tmp_path / name).write_text(held)
    files = {name: str(tmp_path / name) for name in ("new", "old", "log")}
    for line in SESSION:
        words = line.format(key="AAAAAAAAAAAA", spare="BBBBBBBBBBBB", **files).split()
        assert main([*words, "--api", "http://127.0.0.1:9"]) == 1
        printed = capsys.readouterr()
        cannot = "the API cannot do that" in printed.err
        row = "directly only" if cannot else "through the API"
        assert cannot or "did not answer" in printed.err + printed.out, line
        assert any(line.startswith(one) for one in told[row]), f"{line}: {row}"


def test_a_cell_too_long_for_csv_is_one_sentence():
    """A file that is no list of keys is refused by its line, not by a traceback."""
    with pytest.raises(AdminRefusedError, match="line 2 is not CSV"):
        revocations("key_id,reason\nAAAAAAAAAAAA," + "x" * 131_073 + "\n")


def test_a_list_in_another_encoding_is_named_with_the_remedy(tmp_path):
    """Latin-1 is what a spreadsheet saves unless told otherwise."""
    (tmp_path / "keys.csv").write_bytes("tenant,name\nacme,M\u00fcller\n".encode("latin-1"))
    with pytest.raises(AdminRefusedError, match=r"keys\.csv is not UTF-8: .*iconv"):
        _text_of(str(tmp_path / "keys.csv"))


def test_an_interrupted_command_ends_in_one_line(monkeypatch, capsys):
    """Ctrl-C is no failure of the program: 130, as for any command."""

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("auth.__main__._run", interrupted)
    assert main(["tenants", "list"]) == 130
    assert capsys.readouterr().err.count("\n") == 1
