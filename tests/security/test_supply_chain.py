"""What is installed and shipped: pinned by hash, as nobody in particular, with no secret in it."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from string import Template

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)[^\n\\]*((?:\\\n\s+--hash=\S+\s*)*)", re.MULTILINE)
DISTRIBUTIONS = {  # import name: distribution, where they differ
    "flask_cors": "flask-cors",
    "flask_limiter": "flask-limiter",
    "google": "google-cloud-secret-manager",
    "google_crc32c": "google-crc32c",
    "grpc": "grpcio",
    "jwt": "pyjwt",
    "opentelemetry": "opentelemetry-sdk",
    "prometheus_client": "prometheus-client",
    "streamlit_authenticator": "streamlit-authenticator",
    "yaml": "pyyaml",
}
# Imported inside a function by commands that a person runs from a clone, not by a server.
TOOLS = {"api": {"matplotlib", "tqdm", "torch"}, "auth": set(), "web": set()}

# A key of ours, of a cloud, of a code host; a private key; a password in a URL.
SECRETS = re.compile(
    rb"qg_(live|test)_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}"
    rb"|AIza[0-9A-Za-z_-]{35}|AKIA[0-9A-Z]{16}|gh[pousr]_[0-9A-Za-z]{36}"
    rb"|-----BEGIN [A-Z ]*PRIVATE KEY|\"private_key_id\": *\"[0-9a-f]{40}"
    rb"|[a-z]+://[^\s/:@'\"{}$<]+:[^\s/:@'\"{}$<]{8,}@"
)


def locked(lock: Path) -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes of each distribution in a lock, by normalised name."""
    return {
        re.sub(r"[-_.]+", "-", name).lower(): (version, re.findall(r"--hash=(\S+)", hashes))
        for name, version, hashes in ENTRY.findall(lock.read_text())
    }


def test_there_is_a_lock_for_each_group():
    """api, web, admin, bench and dev each have a lock."""
    assert [lock.stem for lock in LOCKS] == ["admin", "api", "bench", "dev", "web"]
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert {lock.stem for lock in LOCKS} <= set(groups)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_requirement_is_pinned_and_hashed(lock):
    """No line of a lock is without == and SHA-256; none names an index, a URL or a local path."""
    text = lock.read_text()
    entries = locked(lock)
    assert entries
    for name, (_, hashes) in entries.items():
        assert hashes, f"{name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), name
    for line in text.splitlines():
        assert line.lstrip().startswith(("#", "--hash=")) or ENTRY.match(line), line
        assert "://" not in line, line


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_no_lock_holds_torch_or_cuda(lock):
    """torch is installed apart; above all the web image can never come to hold it."""
    assert not {name for name in locked(lock) if name in {"torch", "triton"} or "nvidia" in name}


def test_the_locks_agree():
    """A distribution has one version in all locks: what was tested is what is shipped."""
    tested = locked(ROOT / "requirements/dev.txt")
    for lock in LOCKS:
        for name, (version, _) in locked(lock).items():
            if lock.stem != "bench" or name in tested:  # the bench's peers are its own
                assert tested[name][0] == version, (lock.stem, name)


@pytest.mark.parametrize(
    ("rooms", "lock"), [(("api", "auth"), "api"), (("web", "auth"), "web"), (("auth",), "admin")]
)
def test_a_room_imports_what_its_lock_installs(rooms, lock):
    """Every third-party import of what an image ships is in that image's lock."""
    held = locked(ROOT / "requirements" / f"{lock}.txt")
    for room in rooms:
        for path in (ROOT / room).rglob("*.py"):
            missing = {
                root
                for root in imported_roots(path.read_text())
                if root not in sys.stdlib_module_names
                and root not in {"api", "auth", "web", "__future__"}
                and DISTRIBUTIONS.get(root, root) not in held
            }
            assert missing <= TOOLS[room], path


def imported_roots(source: str) -> set[str]:
    roots: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            roots.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            roots.add(node.module.partition(".")[0])
    return roots


def stages() -> dict[str, list[str]]:
    """Return the Dockerfile's instructions by stage, each on one line."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    found: dict[str, list[str]] = {}
    for line in (line.strip() for line in text.splitlines()):
        if line.startswith("FROM "):
            found[line.split()[-1]] = []
        elif line and not line.startswith("#") and found:
            found[list(found)[-1]].append(line)
    return found


def test_the_last_stage_is_the_api():
    """A build without a target makes the API: what `gcloud run deploy --source .` takes."""
    assert list(stages())[-1] == "api"
    assert "web" in stages()


@pytest.mark.parametrize("image", ["api", "web"])
def test_an_image_runs_as_nobody_in_particular(image):
    """USER is numeric (so that a platform can check it), not 0, and comes before CMD; also where a
    build may name another, as Fly's does."""
    lines = stages()[image]
    users = [line for line in lines if line.startswith("USER ")]
    assert len(users) == 1
    arguments = [line.removeprefix("ARG ") for line in lines if line.startswith("ARG ")]
    defaults = dict(argument.split("=", 1) for argument in arguments)
    user = Template(users[0].removeprefix("USER ")).substitute(defaults)
    uid, gid = (int(part) for part in user.split(":"))
    assert uid >= 1000
    assert gid >= 1000
    command = next(line for line in lines if line.startswith("CMD "))
    assert lines.index(users[0]) < lines.index(command)
    assert json.loads(command.removeprefix("CMD "))[:2] == ["python", "-m"]  # PID 1 gets signals


def test_installs_are_checked_against_the_locks():
    """Every pip line of the Dockerfile checks hashes and runs no set-up code; but for torch."""
    installs = [
        line for lines in stages().values() for line in lines if re.search(r"pip install", line)
    ]
    assert len(installs) == 3
    for line in installs:
        assert "--only-binary :all:" in line
        assert "--require-hashes" in line or ("--no-deps" in line and "${TORCH}" in line)
    assert not any("torch" in line.lower() for line in stages()["web-packages"])


def test_no_secret_goes_into_a_layer():
    """Only named folders are copied, and no ARG or ENV is of a secret's name."""
    copied = set()
    for lines in stages().values():
        for line in lines:
            if line.startswith(("COPY ", "ADD ")):
                assert line.startswith("COPY "), "ADD fetches and unpacks"
                copied.update(word for word in line.split()[1:-1] if not word.startswith("--from"))
            if line.startswith(("ARG ", "ENV ")):
                assert not re.search(r"(?i)(secret|key|token|passw|credential)[a-z_]*=\S", line)
    rooms = {"api", "auth", "web", "${MODEL}", "/opt/venv"}
    assert copied == rooms | {"requirements/api.txt", "requirements/web.txt"}


def test_one_model_goes_in_and_is_served():
    """The folder that MODEL names, a model's beside the demo, is what the image then serves."""
    lines = stages()["api"]
    [model] = [line for line in lines if line.startswith("ARG MODEL=")]
    assert re.fullmatch(r"ARG MODEL=models/[\w.-]+", model)
    assert "COPY ${MODEL} ${MODEL}" in lines
    assert any("MODEL_URI=${MODEL}" in line for line in lines if line.startswith("ENV "))


def test_no_key_is_in_the_tree():
    """No file of the repository holds anything that looks like a key, a token or a password."""
    git = shutil.which("git")
    assert git, "git lists the files of the project"
    names = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        path = ROOT / name
        if path.is_file():
            found = SECRETS.search(path.read_bytes())
            assert found is None, f"{name}: {found[0][:12]!r}..."


def test_a_key_would_be_found():
    """The search above sees a key of ours and a service account's file."""
    key = f"qg_live_{'a' * 12}_{'b' * 43}_{'c' * 6}".encode()
    assert SECRETS.search(b"x = '" + key + b"'")
    assert SECRETS.search(b'{"private_key_' + b'id": "' + b"0" * 40 + b'"}')
    assert SECRETS.search(b"redis://user:" + b"longpassword@host")


def test_fly_builds_the_web_target():
    """fly.toml names a stage that exists, the web app's own port and health, and no secret."""
    fly = tomllib.loads((ROOT / "fly.toml").read_text())
    assert fly["build"]["build-target"] == "web"
    assert f"ENV PORT={fly['http_service']['internal_port']}" in stages()["web"]
    assert fly["http_service"]["checks"][0]["path"] in " ".join(stages()["web"])
    assert fly["http_service"]["force_https"] is True
    assert not {name for name in fly["env"] if re.search(r"KEY|TOKEN|PASSWORD", name)}
