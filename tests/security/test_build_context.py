"""What a container build gets to see: source, locks and models, and nothing else.

Wherever it is made: `.dockerignore` is read by docker, podman and buildah on this machine, and
`.gcloudignore` by `gcloud run deploy --source .`, which uploads before Cloud Build builds.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = {".py", ".lua", ".toml", ".txt", ".json", ".safetensors"}
ASSETS = "web/assets/"

# What must never be in a layer, wherever it lies: secrets, state, history, caches, tests.
DECOYS = (
    ".env",
    ".git/config",
    ".quillgate/secrets/keyring/1",
    ".venv/lib/python3.11/site-packages/flask/app.py",
    "api/.env",
    "api/__pycache__/app.cpython-311.pyc",
    "api/gpt/importers/plain_pickle.py",
    "api/gpt/service-account.json",
    "api/limits/.quillgate/redis/appendonly.aof",
    "auth/keys.txt",
    "auth/secrets/key.pem",
    "docs/internal.md",
    "id_rsa",
    "models/demo/training_state.pt",
    "models/mine/ckpt.pt",
    "models/mine/input.txt",
    "models/mine/notes/config.json",
    "requirements/.netrc",
    "service-account.json",
    "tests/conftest.py",
    "web/secrets.toml",
)


def as_regex(pattern: str) -> re.Pattern[str]:
    """Return the meaning of a .dockerignore pattern; a matched folder stands for all in it."""
    parts = re.split(r"(\*)", pattern)
    return re.compile(
        "".join("[^/]*" if part == "*" else re.escape(part) for part in parts) + "(/.*)?"
    )


def in_context(path: str, rules: list[str]) -> bool:
    """Say whether a file is sent to the build: the last rule that matches decides."""
    sent = True
    for rule in rules:
        if as_regex(rule.removeprefix("!")).fullmatch(path):
            sent = rule.startswith("!")
    return sent


@pytest.fixture(scope="module")
def rules() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    git = shutil.which("git")
    assert git, "git lists the files of the project"
    listed = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(listed.stdout.split("\0")) - {""}


def test_everything_is_denied_first(rules):
    """The first rule denies all: a file that nobody thought of stays out.

    The one other denial narrows what the rule before it let in: buildah looks into a folder for
    rules two levels down only if a rule names the folder.
    """
    assert rules[0] == "*"
    assert [rule for rule in rules[1:] if not rule.startswith("!")] == ["models/*/*"]
    assert rules[rules.index("models/*/*") - 1] == "!models/*"


def test_rules_mean_the_same_to_every_builder(rules):
    """No rule needs `**` or a class: builders differ on whether those reach into a folder."""
    assert not [rule for rule in rules if re.search(r"\*\*|[?\[\]\\]", rule)]


@pytest.mark.parametrize("decoy", DECOYS)
def test_a_decoy_stays_out(rules, decoy):
    """Secrets, state, history, caches and tests are not in the context, at any depth."""
    assert not in_context(decoy, rules)


MODEL_FILES = ("config.json", "manifest.json", "model.safetensors", "tokenizer.json")


@pytest.mark.parametrize("model", ["demo", "mine"])
def test_of_a_model_in_the_folder_goes_in_what_serving_reads(rules, model):
    """docs/deploy.md: a model of one's own beside the demo, with no list to edit."""
    assert all(in_context(f"models/{model}/{name}", rules) for name in MODEL_FILES)


def test_gcloud_uploads_what_the_build_sees(rules, tracked, tmp_path):
    """Both lists name the same files, decoys and a model of one's own among what they choose from.

    git reads `.gcloudignore`, whose form is that of a `.gitignore`.
    """
    own = {f"models/mine/{name}" for name in MODEL_FILES}
    decoys = {name for name in DECOYS if not name.startswith(".git/")}
    for name in tracked | decoys | own:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    git = shutil.which("git")
    assert git
    (tmp_path / ".gitignore").unlink()
    listed = [git, "ls-files", "-z", "--others", f"--exclude-from={ROOT / '.gcloudignore'}"]
    subprocess.run([git, "init", "--quiet"], cwd=tmp_path, check=True)
    done = subprocess.run(listed, cwd=tmp_path, capture_output=True, text=True, check=True)
    uploaded = set(done.stdout.split("\0")) - {""}
    assert own <= uploaded
    seen = {name for name in tracked | decoys | own if in_context(name, rules)}
    assert uploaded == seen | {"Dockerfile", ".dockerignore"}


def test_the_context_is_source_locks_and_models(rules):
    """Of the working tree as it lies here, caches and all, only shipped kinds of files go in."""
    sent = {
        name
        for top in ROOT.iterdir()
        if top.name not in {".git", ".venv"}  # decoys stand for these; they are large
        for path in (top, *top.rglob("*"))
        if path.is_file() and in_context(name := path.relative_to(ROOT).as_posix(), rules)
    }
    assert {name.split("/")[0] for name in sent} <= {"api", "auth", "web", "models", "requirements"}
    odd = {name for name in sent if Path(name).suffix not in SHIPPED}
    assert not {name for name in odd if not name.startswith(ASSETS)}


def test_the_context_holds_all_that_the_rooms_need(rules, tracked):
    """No source, script or plan of the rooms is forgotten: the image has what the tests saw.

    But for the importers, which read other people's pickles at a desk and never in a service.
    """
    needed = {
        name
        for name in tracked
        if name.startswith(("api/", "auth/", "web/", "models/demo/"))
        and not name.startswith("api/gpt/importers/")
        and Path(name).suffix not in {".md", ".png"}
    }
    assert needed
    assert {name for name in needed if not in_context(name, rules)} == set()
