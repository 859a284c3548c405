"""What of the sampled text is the answer: its first characters, up to a stop string.

Let T be the text that a request's tokens spell, endless unless the end-of-text token comes, and s
where the first stop string to be completed begins. The answer to a request for n characters is
T[:min(n, s)]. Characters that may
turn out to begin a stop string are held back until that is decided, for which a few tokens more
than n may have to be sampled. So every answer, streamed or not, cut short or not, is a prefix of
the answer for more.
"""

from __future__ import annotations

from collections.abc import Iterable

from api.gpt.request import FinishReason


class Transcript:
    """The text of one generation as it is decided, character by character."""

    def __init__(self, num_chars: int, stop: Iterable[str]) -> None:
        self.finish_reason: FinishReason | None = None
        self.num_chars = num_chars
        self.released = 0  # characters decided so far
        self._held = ""  # what may still turn out to belong to a stop string
        self._matchers = [_Matcher(text) for text in stop]

    def push(self, piece: str) -> str:
        """Take what a token spells; return the characters that are now decided."""
        released = ""
        for character in piece:
            released += self._push(character)
            if self.finish_reason is not None:
                break
        return released

    def end(self) -> str:
        """Return what was held back: nothing follows, so it begins no stop string."""
        if self.finish_reason is not None:
            return ""
        text = self._release(len(self._held))
        self.finish_reason = self.finish_reason or FinishReason.STOP
        return text

    def _push(self, character: str) -> str:
        self._held += character
        for matcher in self._matchers:
            matcher.push(character)
        complete = max((len(m.text) for m in self._matchers if m.complete), default=0)
        if complete:
            # Where a stop string begins exactly at the end, the length was reached first.
            before = self._release(len(self._held) - complete)
            self.finish_reason = self.finish_reason or FinishReason.STOP
            return before
        longest = max((m.matched for m in self._matchers), default=0)
        return self._release(len(self._held) - longest)

    def _release(self, count: int) -> str:
        text = self._held[: min(count, self.num_chars - self.released)]
        self._held = self._held[count:]
        self.released += len(text)
        if self.released == self.num_chars:
            self.finish_reason = FinishReason.LENGTH
        return text


class _Matcher:
    """How much of a string the text ends with (Knuth, Morris and Pratt 1977)."""

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("a stop string has at least 1 character")
        self.text, self.matched = text, 0
        self._fallback = [0] * len(text)  # for each prefix: its longest proper border
        border = 0
        for i in range(1, len(text)):
            while border and text[i] != text[border]:
                border = self._fallback[border - 1]
            border += text[i] == text[border]
            self._fallback[i] = border

    @property
    def complete(self) -> bool:
        return self.matched == len(self.text)

    def push(self, character: str) -> None:
        while self.matched and self.text[self.matched] != character:
            self.matched = self._fallback[self.matched - 1]
        self.matched += self.text[self.matched] == character
