"""A request for text and how it ends; pure values that the scheduler and the routes share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class FinishReason(StrEnum):
    """How a generation ended. Only the first three are ever told to a caller as a success."""

    LENGTH = "length"
    STOP = "stop"  # a stop string, or the end-of-text token
    DEADLINE = "deadline"
    ABORTED = "aborted"  # the caller went away or read too slowly
    ERROR = "error"  # the engine failed
    DRAINING = "draining"  # the process is shutting down
    REFUSED = "refused"  # its deadline came before it was started


class GenerationMode(StrEnum):
    """Which arithmetic the engine uses. Every mode keeps the seed's promise."""

    AUTO = "auto"  # the fastest of the next two that is exact on this processor
    INT8 = "int8"  # 8-bit weights and activations, exact integer sums
    FP32 = "fp32"
    CUDA = "cuda"  # bfloat16 on a GPU; only when asked for: looking for one takes torch


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What to generate; already validated. Characters are code points."""

    request_id: str
    tenant: str
    prompt: str  # never empty: the model's start text stands in for none
    seed: int  # 0..2^63-1
    num_chars: int
    temperature: float = 0.8  # 0 is greedy
    top_k: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    weight: int = 1
    deadline: float | None = None  # on the engine's monotonic clock, seconds


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """How a generation ended and what it came to."""

    text: str
    finish_reason: FinishReason
    generated_chars: int
    queued_ms: int
    first_char_ms: int | None  # None: there was no character
    total_ms: int
    error: str | None = None  # for the log, with FinishReason.ERROR


class EngineRefusedError(Exception):
    """The engine cannot take the request now. `code` is a code of contract section 4."""

    def __init__(self, code: str, retry_after_seconds: float) -> None:
        self.code, self.retry_after_seconds = code, retry_after_seconds
        super().__init__(code)


_SHOWN = 40  # an alphabet


class NotEncodableError(ValueError):
    """The text has characters that the model has no token for.

    `characters` lists each once, in order of first appearance.
    """

    def __init__(self, characters: Sequence[str]) -> None:
        self.characters = tuple(characters)
        shown = ", ".join(_quoted(c) for c in self.characters[:_SHOWN])
        left = len(self.characters) - _SHOWN
        more = f" and {left} more" if left > 0 else ""
        super().__init__(f"the model has no token for {shown}{more}")


def _quoted(char: str) -> str:
    """Return a character as people see it; what they cannot see as JSON's escape."""
    return f'"{char}"' if char.isprintable() else json.dumps(char)
