"""The engine's speed, as its estimates of waiting use it."""

import pytest

from api.gpt.rate import Rate


def test_the_rate_follows_the_clock_and_leaves_out_pauses():
    """Characters a second of busy time: unknown at first, then measured, then averaged."""
    now = [0.0]
    rate = Rate(lambda: now[0])

    def busy(seconds, per_second):
        for _ in range(round(seconds * 10)):
            rate.add(per_second // 10)
            now[0] += 0.1
        rate.add(0)

    assert rate.per_second == 0.0
    busy(1.0, 100)
    assert rate.per_second == pytest.approx(100, rel=0.25)
    rate.pause()
    now[0] += 1000
    busy(1.0, 100)
    assert rate.per_second == pytest.approx(100, rel=0.25)
    busy(20.0, 500)
    assert rate.per_second == pytest.approx(500, rel=0.1)
    assert rate.total == 100 + 100 + 10_000
