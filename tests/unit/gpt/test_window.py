"""The window: never longer than the context, never moved without need, a function of length."""

from hypothesis import given
from hypothesis import strategies as st

from api.gpt.window import window_start


@given(st.integers(1, 600), st.integers(1, 70))
def test_the_view_fits_and_is_not_wasted(length, block_size):
    """The view holds at least one token, at most the context, and once full at least half of it."""
    view = length - window_start(length, block_size)
    assert 1 <= view <= block_size
    assert view >= min(length, block_size - block_size // 2)


@given(st.integers(1, 600), st.integers(1, 70))
def test_the_window_stands_still_until_it_is_full(length, block_size):
    """From one token to the next it stays, or moves because the context was full."""
    before, after = window_start(length, block_size), window_start(length + 1, block_size)
    assert after == before or (after > before and length - before == block_size)


def test_the_first_moves_of_a_context_of_eight():
    """Eight tokens fit; the ninth moves the window by half a context, the thirteenth again."""
    starts = [window_start(length, 8) for length in range(1, 18)]
    assert starts == [0] * 8 + [4] * 4 + [8] * 4 + [12]
