"""What the documents say to gcloud, gcloud knows: every command, every flag, every probe's field.

Each block is run by a shell that finds programs which write down what they were asked, and nothing
else: so the lines are read with their variables, as a reader's shell would.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.documents import blocks

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
# What earlier blocks, or the reader, have set.
KNOWN = {
    "PROJECT": "some-project-1",
    "REGION": "us-central1",
    "NUMBER": "123456789012",
    "OPERATOR": "user:ada@example.com",
    "FLY_ORG": "acme",
    "FLY_APP": "quillgate-web",
    "TOKEN_ORG": "acme",
    "URL": "https://quillgate-api-abc.a.run.app",
    "IMAGE": "us-docker.pkg.dev/some-project-1/api",
    "REDIS_HOST": "10.0.0.3",
    "REDIS_AUTH": "none",
    "SECRET": "quillgate-users",
    "VERSION": "3",
}
SILENT = (".venv/bin/python", "curl", "fly")
RECORDER = """#!/bin/sh
printf '%s\\0' "$@" >> "$RECORDED"; printf '\\036' >> "$RECORDED"
"""


def said_to_gcloud(document: Path, folder: Path) -> list[list[str]]:
    """Return the arguments of each call of gcloud in a document, in order."""
    recorded = folder / "recorded"
    recorded.touch()
    for name in ("gcloud", *SILENT):
        program = folder / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(RECORDER if name == "gcloud" else "#!/bin/sh\n")
        program.chmod(0o755)
    for block in blocks(document):
        if block.language != "sh" or "gcloud" not in block.text:
            continue
        environ = {"PATH": f"{folder}:{os.environ['PATH']}", "RECORDED": str(recorded), **KNOWN}
        for name in ("Dockerfile", "deploy/cloudrun.yaml", "deploy/cloudrun-metrics.yaml"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        subprocess.run(
            ["sh", "-c", block.text], cwd=folder, env=environ, capture_output=True, check=False
        )
    calls = recorded.read_text().split("\036")[:-1]
    return [call.split("\0")[:-1] for call in calls]


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> dict[str, list[list[str]]]:
    return {
        document.stem: said_to_gcloud(document, tmp_path_factory.mktemp(document.stem))
        for document in DOCUMENTS
    }


def test_the_lines_are_found(calls):
    """Variables are filled in, and no line is lost: what is checked below is what is written."""
    assert ["run", "deploy", "quillgate-api"] in [call[:3] for call in calls["deploy"]]
    written = sum(
        block.text.count("gcloud ")
        for document in DOCUMENTS
        for block in blocks(document)
        if block.language == "sh"
    )
    told = [word for found in calls.values() for call in found for word in call]
    assert sum(map(len, calls.values())) == written
    assert not [word for word in told if "$" in word]


def test_gcloud_knows_each_command_and_flag(calls, tmp_path):
    """Where gcloud is installed its own linter, which asks nobody, reads them all."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return  # the test above holds that a shell reads them; the rest takes gcloud
    # What stands after `--` is ssh's.
    asked = {
        shlex.join(["gcloud", *(call[: call.index("--")] if "--" in call else call)])
        for found in calls.values()
        for call in found
    }
    commands = tmp_path / "commands.json"
    commands.write_text(json.dumps([{"command_string": line} for line in sorted(asked)]))
    done = subprocess.run(
        [gcloud, "meta", "lint-gcloud-commands", f"--commands-file={commands}", "--serialize"],
        env={**os.environ, "CLOUDSDK_CONFIG": str(tmp_path), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [answer for found in json.loads(done.stdout).values() for answer in found]
    assert len(answers) == len(asked)
    wrong = [f"{a['command_string']}: {a['error_message']}" for a in answers if not a["success"]]
    # Newer releases know it without `alpha`; docs/deploy.md says so.
    assert not [one for one in wrong if "monitoring policies migrate" not in one]


def test_the_permissions_asked_for_are_ones_that_google_has(calls):
    """No binding lacks its condition or says that it has none: gcloud would stop and ask."""
    for found in calls.values():
        for call in found:
            if call[:2] == ["projects", "add-iam-policy-binding"]:
                assert any(word.startswith("--condition") for word in call), call


def test_the_files_fill_in_to_services(tmp_path):
    """The documents' sed leaves no placeholder in what is given to `services replace`."""
    document = ROOT / "docs" / "deploy.md"
    said_to_gcloud(document, tmp_path)
    written = (tmp_path / "service.yaml").read_text()
    service = yaml.safe_load(written)
    spec = service["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == "quillgate-api@some-project-1.iam.gserviceaccount.com"
    assert service["metadata"]["labels"]["cloud.googleapis.com/location"] == "us-central1"
    values = [str(one.get("value", "")) for one in spec["containers"][0]["env"]]
    assert "gcp:some-project-1" in values
