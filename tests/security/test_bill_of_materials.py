"""`make sbom`: the bill of materials of each image, complete and in CycloneDX's form."""

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


@pytest.mark.parametrize("image", ["api", "web"])
def test_every_locked_package_is_on_the_bill(bills, image):
    """Name and version of all that the image installs, each with its hashes; torch by version."""
    bill = json.loads((bills / f"quillgate-{image}.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "quillgate"
    lock = (ROOT / "requirements" / f"{image}.txt").read_text()
    locked = set(re.findall(r"^([a-z0-9][\w.-]*)(?:\[[^]]*\])?==([^ ;\\]+)", lock, re.MULTILINE))
    listed = {(one["name"], one["version"]): one for one in bill["components"]}
    torch = {pair for pair in listed if pair[0] == "torch"}
    assert set(listed) - torch == locked
    assert bool(torch) == (image == "api")
    for pair in locked:
        [source] = listed[pair]["externalReferences"]
        assert source["hashes"], pair
