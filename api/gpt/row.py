"""One request while it generates: its tokens, where its window stands, and its answer so far."""

from __future__ import annotations

from collections.abc import Iterable

from api.gpt.generation import Generation
from api.gpt.request import FinishReason
from api.gpt.sampling import Draw
from api.gpt.tokenizer import Tokenizer
from api.gpt.transcript import Transcript
from api.gpt.window import window_start


class Row:
    """Touched by the engine's thread only; everything in it follows from the request alone."""

    def __init__(
        self, generation: Generation, prompt: list[int], block_size: int, tokenizer: Tokenizer
    ) -> None:
        """Raise ValueError for an empty prompt: there is nothing to continue."""
        if not prompt:
            raise ValueError("a prompt has at least 1 character")
        self.generation, self.tokens, self.block_size = generation, prompt, block_size
        request = generation.request
        self._end_of_text, self._detokenizer = tokenizer.end_of_text, tokenizer.detokenizer()
        self._transcript = Transcript(request.num_chars, request.stop)
        self._prompt_length = len(prompt)
        self.window = window_start(len(prompt), block_size)  # the first token in view
        self.read = 0  # tokens in view that the cache holds; set by who reads them
        self.slot = -1  # where in the cache; set by who gives it one

    @property
    def request_id(self) -> str:
        return self.generation.request.request_id

    @property
    def tenant(self) -> str:
        return self.generation.request.tenant

    @property
    def weight(self) -> int:
        return self.generation.request.weight

    @property
    def is_new(self) -> bool:
        """Whether its first token is still to be drawn."""
        return len(self.tokens) == self._prompt_length

    @property
    def position(self) -> int:
        """Where the newest token stands in the window."""
        return len(self.tokens) - 1 - self.window

    def unread(self, limit: int) -> list[int]:
        """Return the next tokens in view that the cache does not hold, at most `limit`."""
        first = self.window + self.read
        return self.tokens[first : first + limit]

    def move_window(self) -> bool:
        """Put the window where the text's length wants it; if it moved, all is to be read again."""
        window = window_start(len(self.tokens), self.block_size)
        if window == self.window:
            return False
        self.window, self.read = window, 0
        return True

    def draw(self) -> Draw:
        """Return the settings of the next token's draw."""
        request = self.generation.request
        return Draw(
            seed=request.seed,
            position=len(self.tokens) - self._prompt_length,
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
        )

    def room(self) -> int:
        """Return how many tokens can be drawn before the window moves or the text may be whole."""
        in_window = self.window + self.block_size + 1 - len(self.tokens)
        return max(1, min(in_window, self._transcript.num_chars - self._transcript.released))

    def take(self, tokens: Iterable[int]) -> int:
        """Add tokens that were drawn, hand out what they decide; return how many characters.

        What was drawn after the end is dropped.
        """
        if self.generation.ended:
            return 0
        text = ""
        for token in tokens:
            self.tokens.append(token)
            if token == self._end_of_text:
                text += self._transcript.push(self._detokenizer.flush()) + self._transcript.end()
            else:
                text += self._transcript.push(self._detokenizer.push(token))
            if self._transcript.finish_reason is not None:
                break
        self.generation.put(text)
        if self._transcript.finish_reason is not None:
            self.generation.end(self._transcript.finish_reason)
        return len(text)

    def end_if_due(self, now: float) -> bool:
        """End the generation if its deadline has come; say whether it has ended, however."""
        deadline = self.generation.request.deadline
        if deadline is not None and deadline <= now:
            self.generation.end(FinishReason.DEADLINE)
        return self.generation.ended
