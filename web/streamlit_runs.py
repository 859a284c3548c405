"""All that a run of a page has drawn reaches its tab, whatever asks for the next run meanwhile.

Streamlit takes what a run draws piece by piece, on its event loop. Where a part of the page that
draws itself asks for its turn after a run has ended and before its last pieces were taken, it
begins the next run at once and drops them: the page stays without its end, until something else
draws it anew. Here a timer's request in that moment counts for nothing, as the timer asks again: if
it waited, the fields that it brings along could be older than what the person has typed since. A
click in such a part waits until the ended run is taken whole.

Read in Streamlit 1.67, `AppSession.request_rerun`, whose comments know of the danger.
"""

from __future__ import annotations

import asyncio

from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequestType

AGAIN_SECONDS = 0.005

_request_rerun = AppSession.request_rerun


def lose_nothing() -> None:
    """Let all sessions of this process wait for what was drawn; a second call changes nothing."""
    # Nothing that Streamlit offers comes between a request and the run that it begins.
    AppSession.request_rerun = _request_rerun_in_turn  # type: ignore[assignment, method-assign]


def _request_rerun_in_turn(session: AppSession, client_state: ClientState | None) -> None:
    if client_state is not None and client_state.fragment_id and _is_ending(session):
        if not client_state.is_auto_rerun:
            loop = asyncio.get_running_loop()
            loop.call_later(AGAIN_SECONDS, _request_rerun_in_turn, session, client_state)
        return
    _request_rerun(session, client_state)


def _is_ending(session: AppSession) -> bool:
    """Tell whether a run has ended of which not everything was taken yet.

    A run that is drawn anew as a whole needs not wait: it draws all of it again.
    """
    # Nothing public tells whether a runner takes requests still.
    runner = session._scriptrunner  # noqa: SLF001
    return runner is not None and runner._requests._state is ScriptRequestType.STOP  # noqa: SLF001
