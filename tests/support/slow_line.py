"""A line from the web app to the browser on which answers can be held back, as a slow one does."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, WebSocketRoute


class SlowLine:
    """What the page sends arrives at once; what the web app answers, when it is let through.

    To be laid before the page is opened.
    """

    def __init__(self, context: BrowserContext) -> None:
        self._page: WebSocketRoute | None = None
        self._held: list[str | bytes] = []
        self._holding = False
        context.route_web_socket("**/_stcore/stream", self._lay)

    def _lay(self, page: WebSocketRoute) -> None:
        self._page = page
        page.connect_to_server().on_message(self._answer)

    def _answer(self, message: str | bytes) -> None:
        if self._holding or self._page is None:
            self._held.append(message)
        else:
            self._page.send(message)

    def hold(self) -> None:
        """Let no answer reach the page from now on."""
        self._holding = True

    def release(self) -> None:
        """Let all answers through, in their order."""
        self._holding = False
        held, self._held = self._held, []
        for message in held:
            if self._page is not None:
                self._page.send(message)
