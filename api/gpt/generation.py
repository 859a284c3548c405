"""The handle of one generation: the engine's thread writes text, one reader reads, either may end.

It ends exactly once, by whoever is first, and stays silent after. A reader that falls too far
behind is ended, never waited for. No call here waits for the engine except `read` and `result`,
and the engine answers every handle it has taken, also when it fails.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from api.gpt.request import FinishReason, GenerationRequest, GenerationResult

UNREAD_LIMIT = 4096  # characters that a streaming reader may be behind


class Generation:
    """One request in the engine, from `submit` to its end."""

    def __init__(
        self,
        request: GenerationRequest,
        *,
        clock: Callable[[], float],
        on_abort: Callable[[str], None],
        unread_limit: int = UNREAD_LIMIT,
    ) -> None:
        self.request = request
        self._clock, self._on_abort, self._unread_limit = clock, on_abort, unread_limit
        self._changed = threading.Condition()
        self._pieces: list[str] = []
        self._chars = 0
        self._unread: list[str] = []
        self._unread_chars = 0
        self._collecting = False  # someone waits for the whole text, so none of it is late
        self._finish_reason: FinishReason | None = None
        self._error: str | None = None
        self._submitted = clock()
        self._started: float | None = None
        self._first_char: float | None = None
        self._ended = 0.0

    # For the caller's thread.

    def read(self, timeout_seconds: float) -> str | None:
        """Return what came since the last call, "" when nothing did in time, None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._unread or self.ended, timeout_seconds)
            if self._unread:
                text = "".join(self._unread)
                self._unread.clear()
                self._unread_chars = 0
                return text
            return None if self.ended else ""

    def result(self, timeout_seconds: float | None = None) -> GenerationResult:
        """Wait for the end and return all of it. Raise TimeoutError if it does not come in time."""
        with self._changed:
            self._collecting = True
            self._changed.wait_for(lambda: self.ended, timeout_seconds)
            if self._finish_reason is None:
                raise TimeoutError("the generation has not ended")
            queued_until = self._ended if self._started is None else self._started
            first_char = self._first_char
            return GenerationResult(
                text="".join(self._pieces),
                finish_reason=self._finish_reason,
                generated_chars=self._chars,
                queued_ms=self._since_submit(queued_until),
                first_char_ms=None if first_char is None else self._since_submit(first_char),
                total_ms=self._since_submit(self._ended),
                error=self._error,
            )

    def abort(self) -> None:
        """End the generation; the engine frees its slot within one step. Idempotent."""
        if self.end(FinishReason.ABORTED):
            self._on_abort(self.request.request_id)

    # For the engine's thread.

    @property
    def ended(self) -> bool:
        return self._finish_reason is not None

    @property
    def started(self) -> bool:
        return self._started is not None

    @property
    def chars_left(self) -> int:
        """How many characters are still to come, if nothing ends it before."""
        return 0 if self.ended else self.request.num_chars - self._chars

    def start(self) -> None:
        """Note that the request left the queue; for the first time, if it does so again."""
        if not self.started:
            self._started = self._clock()

    def put(self, text: str) -> None:
        """Hand text to the reader; nothing once it has ended."""
        if not text:
            return
        with self._changed:
            if self.ended:
                return
            self._pieces.append(text)
            self._chars += len(text)
            if self._first_char is None:
                self._first_char = self._clock()
            self._unread.append(text)
            self._unread_chars += len(text)
            if self._unread_chars > self._unread_limit and not self._collecting:
                self._end(FinishReason.ABORTED)
            self._changed.notify_all()

    def end(self, reason: FinishReason, error: str | None = None) -> bool:
        """End it, unless it has ended already; say which."""
        with self._changed:
            if self.ended:
                return False
            self._end(reason, error)
            return True

    def _end(self, reason: FinishReason, error: str | None = None) -> None:
        self._finish_reason, self._error = reason, error
        self._ended = self._clock()
        if reason is FinishReason.ABORTED:
            self._unread.clear()  # nobody wants it any more
        self._changed.notify_all()

    def _since_submit(self, moment: float) -> int:
        return round((moment - self._submitted) * 1000)
