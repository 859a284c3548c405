"""A part of a page that draws itself again every so often: in a place of its own.

Streamlit's browser takes away what a run of the whole page did not draw. When the part asks for its
turn while the page is drawn, what the page's run drew of it is never sent: the part is taken away,
what stands below it moves up, and the part's next drawing covers that. Around the part is a
container that is the page's: it is sent, and keeps the place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

import streamlit as st

Given = ParamSpec("Given")


def redrawn(every: float | None) -> Callable[[Callable[Given, None]], Callable[Given, None]]:
    """Return a decorator; what it decorates draws itself every so many seconds, or only once."""

    def decorate(draw: Callable[Given, None]) -> Callable[Given, None]:
        part = st.fragment(draw, run_every=every)

        def drawn(*args: Given.args, **kwargs: Given.kwargs) -> None:
            with st.container():
                part(*args, **kwargs)

        return drawn

    return decorate
