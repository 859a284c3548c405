"""Which tokens the model sees once a text is longer than its context; a function of length alone.

Learned positions cannot slide: a token's keys hold the position it was read at. So the window
stands still until it is full, then jumps by half a context, and what it now covers is read again.
Where it starts depends on how many tokens there are and on nothing else, neither on who wrote them
nor on how many were asked for: that is what lets a longer request begin with a shorter one's text.
"""

from __future__ import annotations


def window_start(length: int, block_size: int) -> int:
    """Return the first token in view when the next one after `length` tokens is predicted.

    The view `[start, length)` is never longer than `block_size`, and at least half of it once the
    text has been that long.
    """
    if length <= block_size:
        return 0
    hop = max(1, block_size // 2)
    return -(-(length - block_size) // hop) * hop
