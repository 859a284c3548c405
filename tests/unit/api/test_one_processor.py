"""Serving threads stay together on one processor, and leave one that others fill."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from api import one_processor
from api.one_processor import OneProcessor, roomier
from tests.support.cli import auth
from tests.support.waiting import wait_until

several_processors = pytest.mark.skipif(
    not one_processor.SUPPORTED or len(os.sched_getaffinity(0)) < 2,
    reason="there is one processor, or the system does not let a thread choose",
)


@pytest.mark.parametrize(
    ("idle", "ours", "moves_to"),
    [
        ({0: 0.0, 1: 0.9}, 0.3, 1),
        ({0: 0.0, 1: 0.5, 2: 0.8}, 0.0, 2),
        ({0: 0.2, 1: 0.9}, 0.3, None),  # not full
        ({0: 0.0, 1: 0.9}, 0.9, None),  # full of ourselves
        ({0: 0.0, 1: 0.1}, 0.3, None),  # full everywhere
        ({1: 0.9}, 0.3, None),  # nothing is known
        ({}, 0.0, None),
    ],
)
def test_where_to_move(idle, ours, moves_to):
    """Threads leave only a processor that others fill, and only for one with room."""
    assert roomier(0, idle, ours) == moves_to


@several_processors
def test_all_threads_move_together(monkeypatch):
    """Everyone who joined runs on the one processor, and moves with it when it is crowded."""
    allowed = os.sched_getaffinity(0)
    monkeypatch.setattr(one_processor, "LOOK_SECONDS", 0.0)
    idle = dict.fromkeys(allowed, 0.0)
    together = OneProcessor(lambda: dict(idle))
    seen, joined, moved = [], threading.Event(), threading.Event()

    def serve():
        together.join()
        seen.append(os.sched_getaffinity(0))
        joined.set()
        assert moved.wait(20)
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=serve)
    thread.start()
    assert joined.wait(20)
    first = together.chosen
    together.look()

    def left() -> bool:
        for one in allowed - {first}:
            idle[one] += 1000.0
        together.look()
        return together.chosen != first

    # A coin is thrown at every look. Some time passes between two, as the processor's owner may
    # have taken it away while the thread ran: Linux counts that as time the thread had.
    wait_until(left, "the threads to move")
    moved.set()
    thread.join()
    assert seen == [{first}, {together.chosen}]
    assert os.sched_getaffinity(0) == allowed  # who did not join is left alone


@several_processors
def test_the_service_serves_on_one_processor_and_generates_on_all(
    tmp_path, redis_url, tiny_model, api_server
):
    """In the real process gunicorn's threads share one processor, the engine's may use any."""
    environ = {
        "QUILLGATE_HOME": str(tmp_path / "home"),
        "REDIS_URL": redis_url,
        "MODEL_URI": str(tiny_model),
    }
    auth(environ, "tenants", "add", "acme", "--plan", "partner")
    key = auth(environ, "keys", "issue", "--tenant", "acme", "--name", "one")["key"]
    api = api_server(**environ)
    assert api.post("/generate", key, num_chars=1).status_code == 200
    here = os.sched_getaffinity(0)
    # gunicorn's master waits for its one child, the worker, whose main thread accepts.
    [master] = Path(f"/proc/{api.process.pid}/task").iterdir()
    children = map(int, (master / "children").read_text(encoding="ascii").split())
    worker = next(pid for pid in children if os.sched_getaffinity(pid) != here)
    tasks = Path(f"/proc/{worker}/task").iterdir()
    places = [os.sched_getaffinity(int(task.name)) for task in tasks]
    serving = [place for place in places if len(place) == 1]
    assert len(serving) >= 2  # the one that accepts, the one that answered
    assert len({tuple(place) for place in serving}) == 1
    assert here in places
