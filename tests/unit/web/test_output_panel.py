"""The panel beside the form: a page never stays as it was drawn for a run that has ended since."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from tests.support.web_parts import PASSWORD


def _page() -> None:
    import streamlit as st

    from web.output_panel import Panel, output_panels
    from web.run import RunState, RunView

    def look(state: RunState) -> RunView:
        return RunView(state, "", {"num_chars": 200}, "", 0.1, {}, None, 0.0)

    class EndedSince:
        """The run as it is a moment after the page looked."""

        def view(self, _run_id: str) -> RunView:
            return look(RunState.DONE)

    draws = st.session_state["draws"] = st.session_state.get("draws", 0) + 1
    page_saw = look(RunState.WRITING if draws == 1 else RunState.DONE)
    output_panels(EndedSince(), [Panel("run", page_saw)])  # type: ignore[arg-type]  # all it asks for


@pytest.fixture
def app(parts):
    """Return the page above, for somebody who is logged in."""
    app = AppTest.from_function(_page, default_timeout=30)
    app.session_state["_session_token"] = parts.desk.log_in("ada", PASSWORD, "192.0.2.1")
    return app


def test_a_run_that_ends_between_two_looks_draws_the_page_again(app):
    """The buttons were drawn for a running run; it ended before the panel looked: draw anew."""
    assert not app.run().exception
    assert app.session_state["draws"] == 2
