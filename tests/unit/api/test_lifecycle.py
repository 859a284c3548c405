"""Loading, failing, draining: what the process says of itself in each state."""

from __future__ import annotations

import threading

import pytest

from api.errors import ProblemError
from api.lifecycle import Lifecycle, ModelUnusableError
from tests.support.scripted_engine import ScriptedEngine
from tests.support.waiting import wait_until


class Keyring:
    def __init__(self, failures=0):
        self.failures, self.loads = failures, 0

    def load(self):
        self.loads += 1
        if self.loads <= self.failures:
            raise RuntimeError("the store is away")


def test_a_model_loads_beside_the_service():
    """Until it is there `engine` is model_loading; then it is the engine."""
    go = threading.Event()

    def load():
        go.wait(10)
        return ScriptedEngine()

    lifecycle = Lifecycle(load_engine=load, keyring=Keyring())
    lifecycle.start()
    assert lifecycle.model_check == "loading"
    assert lifecycle.model_name is None
    with pytest.raises(ProblemError) as caught:
        lifecycle.engine()
    assert caught.value.code == "model_loading"
    go.set()
    wait_until(lambda: lifecycle.model_check == "ok")
    assert lifecycle.engine().model_name == "scripted"


def test_a_model_that_cannot_be_loaded_says_why():
    """The process stays up with the reason, in one line."""

    def load():
        raise ModelUnusableError("model.safetensors: its SHA-256 is not the one in manifest.json")

    lifecycle = Lifecycle(load_engine=load, keyring=Keyring())
    lifecycle.start()
    wait_until(lambda: lifecycle.model_check.startswith("failed"))
    assert "SHA-256" in lifecycle.model_check
    with pytest.raises(ProblemError):
        lifecycle.engine()


def test_a_fault_while_loading_says_only_its_kind():
    """What nobody foresaw is told in full to the log alone."""

    def load():
        raise RuntimeError("something private")

    lifecycle = Lifecycle(load_engine=load, keyring=Keyring())
    lifecycle.start()
    wait_until(lambda: lifecycle.model_check.startswith("failed"))
    assert lifecycle.model_check == "failed: RuntimeError"


def test_a_keyring_that_is_away_is_tried_again():
    """A store that comes back is enough: nobody has to restart anything."""
    keyring = Keyring(failures=3)
    waits = []
    lifecycle = Lifecycle(load_engine=ScriptedEngine, keyring=keyring, sleep=waits.append)
    lifecycle.start()
    wait_until(lambda: keyring.loads == 4)
    assert len(waits) == 3


def test_an_engine_that_stopped_is_not_used():
    """A failed generator makes the instance unready instead of taking requests that cannot end."""
    engine = ScriptedEngine()
    lifecycle = Lifecycle(load_engine=lambda: engine, keyring=Keyring())
    lifecycle.start()
    wait_until(lambda: lifecycle.model_check == "ok")
    engine.healthy = False
    assert lifecycle.model_check.startswith("failed")
    with pytest.raises(ProblemError):
        lifecycle.engine()


def test_draining_is_one_way_and_waits_for_what_runs():
    """A second call waits for the first and changes nothing."""
    lifecycle = Lifecycle(load_engine=ScriptedEngine, keyring=Keyring())
    lifecycle.start()
    wait_until(lambda: lifecycle.model_check == "ok")
    assert not lifecycle.draining
    lifecycle.drain(0.1)
    lifecycle.drain(0.1)
    assert lifecycle.draining
    lifecycle.close()
