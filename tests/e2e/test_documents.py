"""What the documents tell a reader to type works, and what they point at is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from api.errors import CATALOGUE
from tests.support.api_server import free_port
from tests.support.documents import RUN, SHOWN, Block, blocks

ROOT = Path(__file__).parents[2]
LOCAL_URL = "http://127.0.0.1:8080"
# What a reader with an account has installed; nothing else may be asked of them.
CLOUD_PROGRAMS = {
    "sh",
    "gcloud",
    "fly",
    "curl",
    "unset",
    "export",
    "printf",
    "sed",
    "python3",
    ".venv/bin/python",
}

NAMES = (*("deploy", "limits", "operations", "partners", "rotation", "scaling", "secret-manager"),)
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(ROOT / "docs" / f"{name}.md" for name in NAMES),
    *sorted((ROOT / "docs" / "adr").glob("*.md")),
]
ALL = [block for document in DOCUMENTS for block in blocks(document)]
SHELL = [block for block in ALL if block.language == "sh" and not block.how]
RUNNABLE = sorted({block.document for block in SHELL})


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """Return a folder that begins the PATH: this very Python, and curl where there is none."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("python", "python3"):
        _script(folder / name, f'exec "{sys.executable}" "$@"')
    if shutil.which("curl") is None:
        curl = ROOT / "tests" / "support" / "curl.py"
        _script(folder / "curl", f'exec "{sys.executable}" "{curl}" "$@"')
    return folder


def _script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


@pytest.fixture
def environ(live_api, fresh_key, programs) -> dict[str, str]:
    """Return the environment of a reader who followed the README: a service, a key, a home."""
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", "/"),
        "QUILLGATE_HOME": str(live_api.home),
        "QUILLGATE_URL": live_api.server.url,
        "KEY": fresh_key(),
        "TENANT": live_api.tenant(),
    }


def run(command: list[str], text: str, environ: dict[str, str], folder: Path = ROOT) -> str:
    """Give the text to an interpreter; return what it printed. It must end with status 0."""
    ours = {
        LOCAL_URL: environ["QUILLGATE_URL"],
        ".venv/bin/python": "python",
        "6399": str(free_port()),
    }
    for theirs, here in ours.items():
        text = text.replace(theirs, here)
    done = subprocess.run(
        command,
        input=text,
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n---\n{done.stdout}\n{done.stderr}"
    return done.stdout


def node() -> str:
    """Return a Node: the one on the PATH, else the one that Playwright brings."""
    from playwright._impl._driver import compute_driver_executable

    return shutil.which("node") or str(compute_driver_executable()[0])


@pytest.mark.parametrize("document", RUNNABLE, ids=lambda path: path.name)
def test_the_shell_commands_of_a_document_work(document, environ):
    """Typed in order into one shell, each command ends well and each answer is no problem."""
    mine = [block for block in SHELL if block.document == document]
    script = "".join(f"\n# line {block.line}\n{block.text}" for block in mine)
    shown = run(["bash", "-euo", "pipefail"], script, environ)
    problems = set(re.findall(r'"code": ?"(\w+)"', shown))
    assert problems <= {"invalid_request"}, shown  # one is asked for, to show what an error is


def test_the_ledger_comes_back_from_what_cloud_logging_prints(environ, tmp_path):
    """The block of operations.md, with a `gcloud` that prints entries as Cloud Logging has them.

    It keeps `time` as the entry's own timestamp and every number as a float.
    """
    [block] = [b for b in ALL if b.document.name == "operations.md" and "rebuild" in b.text]
    key_id = environ["KEY"].split("_")[2]
    of_the_key = {"tenant": environ["TENANT"], "key_id": key_id}
    settled = {"admitted_at_ms": 1_760_000_000_000.0, "charged_chars": 70.0, "lease_id": "a.70.3"}
    refused = {"code": "rate_limited", "route": "/generate", "request_id": "r-1", "status": 429.0}
    entries = [
        {"timestamp": "2025-10-09T08:53:20.123456789Z", "jsonPayload": {**of_the_key, **line}}
        for line in (
            {"message": "generation.settled", **settled},
            {"message": "request", **refused},
        )
    ]
    (tmp_path / "entries.json").write_text(json.dumps(entries))
    _script(tmp_path / "gcloud", f'exec cat "{tmp_path}/entries.json"')
    here = {"PATH": f"{tmp_path}:{environ['PATH']}", "PYTHONPATH": str(ROOT)}
    shown = run(["bash", "-euo", "pipefail"], block.text, {**environ, **here}, tmp_path)
    told = dict(line.split() for line in shown.splitlines())
    assert told == {"settled": "1", "refused": "1", "keys": "1", "chars": "70"} | {
        "unreadable_lines": "0"
    }


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "python"], ids=str)
def test_a_python_program_works(block, environ):
    """It ends well and writes text."""
    assert run([sys.executable, "-"], block.text, environ).strip()


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "js"], ids=str)
def test_a_javascript_program_works(block, environ):
    """It ends well and its stream ends with its terminal event."""
    shown = run([node(), "--input-type=module", "-"], block.text, environ)
    assert "-- length" in shown


@pytest.mark.parametrize("block", ALL, ids=str)
def test_every_block_says_how_it_is_kept_true(block: Block):
    """No block escapes: it is run here, is shown only, or says who can run it and is checked."""
    assert block.language in RUN | SHOWN, f"unknown language {block.language!r}"
    if block.language != "sh" or not block.how:
        assert not block.how
        return
    if block.how.startswith("test="):
        assert (ROOT / block.how.removeprefix("test=")).is_file()
    else:
        assert block.how in {"cloud", "yours"}
    run(["bash", "-n"], block.text, {**os.environ, "QUILLGATE_URL": LOCAL_URL})
    if block.how == "cloud":
        assert programs_in(block.text) <= CLOUD_PROGRAMS


def programs_in(script: str) -> set[str]:
    """Return the first word of each command of a script, near enough for the documents."""
    script = re.sub(r"\\\n\s*", " ", script)  # continued lines
    script = re.sub(r"\"(?:[^\"$]|\$(?!\())*\"|'[^']*'", '""', script)  # quoted words
    script = re.sub(r"(?m)^#.*|^(for|done)\b.*", "", script)
    words = re.findall(r"(?m)(?:^|\||\$\()\s*([\w./-]+=\S*|[\w./-]+)", script)
    return {word for word in words if "=" not in word}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_command_stands_outside_a_fence(document):
    """Four spaces make code in Markdown too, and nothing would check that."""
    outside = re.sub(r"^```(?:.*\n)*?```$", "", document.read_text(), flags=re.MULTILINE)
    assert not re.findall(r"(?<=\n\n) {4,}\S.*", outside)


def test_partners_find_every_code():
    """What a partner's program may meet has a row that says what to do."""
    text = (ROOT / "docs" / "partners.md").read_text()
    rows = "".join(re.findall(r"^\| \d.*\n", text, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", rows)) >= set(CATALOGUE)


def test_every_symptom_says_what_is_seen_why_and_what_to_do():
    """operations.md at three in the morning: no entry leaves one of the three out."""
    text = (ROOT / "docs" / "operations.md").read_text()
    symptoms = re.findall(r"^### (.+)\n((?:(?!##).*\n)*)", text, re.MULTILINE)
    assert len(symptoms) > 20
    for title, entry in symptoms:
        found = re.findall(r"^\*\*(See|Why|Do)\*\*:", entry, re.MULTILINE)
        assert found == ["See", "Why", "Do"], title


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    """Every relative link and picture is a file, and every anchor a heading."""
    text = document.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert anchor in {_anchor(heading) for heading in headings}, target


def _anchor(heading: str) -> str:
    """Return the anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
