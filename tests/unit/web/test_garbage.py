"""Loaded modules are taken out of garbage collection once, not at every run."""

import gc
import sys
import types

import pytest

from web.garbage import freeze_new_modules


@pytest.fixture(autouse=True)
def _thawed():
    yield
    gc.unfreeze()


def test_it_freezes_when_a_module_came_and_only_then(monkeypatch):
    """Runs that load nothing new cost nothing."""
    freeze_new_modules()
    assert not freeze_new_modules()
    monkeypatch.setitem(sys.modules, "just_loaded", types.ModuleType("just_loaded"))
    new = [object()]  # what is frozen is no longer among what is looked through
    assert freeze_new_modules()
    assert not any(one is new for one in gc.get_objects())
    assert not freeze_new_modules()
