"""The breaker lets one caller a second find out, and nobody else wait."""

from __future__ import annotations

from api.limits.breaker import Breaker


class Monotonic:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_only_one_probe_each_pause():
    """After a failure everybody does without, but for one caller a pause."""
    time = Monotonic()
    breaker = Breaker(1.0, time)
    assert all(breaker.may_try() for _ in range(3))
    assert breaker.failed()
    assert not breaker.may_try()
    time.now += 1.0
    assert breaker.may_try()  # the probe
    assert not any(breaker.may_try() for _ in range(3))  # while it is under way
    assert not breaker.failed()  # still open: no news
    time.now += 0.999
    assert not breaker.may_try()
    time.now += 0.001
    assert breaker.may_try()


def test_a_success_closes_it_for_everybody():
    """The first answer ends the outage, and is told once."""
    time = Monotonic()
    breaker = Breaker(1.0, time)
    assert not breaker.succeeded()
    breaker.failed()
    assert not breaker.closed
    time.now += 1.0
    assert breaker.may_try()
    assert breaker.succeeded()
    assert not breaker.succeeded()
    assert breaker.closed
    assert all(breaker.may_try() for _ in range(3))


def test_a_probe_that_never_reports_does_not_close_the_door_for_ever():
    """A thread that died while probing costs one pause: the next one probes again."""
    time = Monotonic()
    breaker = Breaker(1.0, time)
    breaker.failed()
    time.now += 1.0
    assert breaker.may_try()
    time.now += 1.0
    assert breaker.may_try()
