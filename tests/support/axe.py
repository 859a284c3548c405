"""Axe, Deque's accessibility engine, run in a page; without it a test fails with one sentence.

The script is npm's axe-core as the locked wheel axe-playwright-python carries it: a machine that
has the test dependencies has it, and no registry is asked.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from playwright.sync_api import Page

PACKAGE = "axe_playwright_python"
GRAVE = ("serious", "critical")


def axe_script() -> str:
    """Return the engine's source, or fail the test."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        pytest.fail(f"{PACKAGE} is not installed: run `make setup`.", pytrace=False)
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def grave_violations(page: Page, script: str) -> list[str]:
    """Return what axe calls serious or critical, each with its rule and the first elements."""
    page.evaluate(script)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: "
        + "; ".join(node["html"][:200] for node in one["nodes"][:3])
        for one in found["violations"]
        if one["impact"] in GRAVE
    ]
