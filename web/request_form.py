"""What a person typed, checked before it is sent; the API checks it again and has the last word.

The browser's own limits on a field are a courtesy: what arrives here may be anything.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_PROMPT_CHARS = 4000
MAX_SEED = 2**63 - 1
MAX_TEMPERATURE = 2.0
MAX_TOP_K = 1_000_000
LARGEST_NUM_CHARS = 10_000  # of any built-in plan; used while the user's own is not known
ROLLED_SEEDS = 10**9  # a seed that is drawn here can be read aloud and typed again


@dataclass(frozen=True, slots=True)
class Preset:
    """Sampling settings under a name."""

    temperature: float
    top_k: int | None = None
    top_p: float | None = None


PRESETS: Mapping[str, Preset] = {
    "Precise": Preset(0.3),
    "Balanced": Preset(0.8),
    "Bold": Preset(1.2, top_p=0.95),
}


@dataclass(frozen=True, slots=True)
class CheckedForm:
    """Either a body to send, or what is wrong by field name."""

    body: Mapping[str, Any]
    problems: Mapping[str, str]


def roll_seed() -> int:
    """Return a seed drawn at random."""
    return secrets.randbelow(ROLLED_SEEDS)


def check_form(
    *,
    prompt: str,
    seed: str,
    temperature: float | None,
    num_chars: float | None,
    max_num_chars: int,
    top_k: float | None = None,
    top_p: float | None = None,
) -> CheckedForm:
    """Return the body of a streamed POST /generate, or the problems.

    An empty seed is drawn here, so that the page can show which one it was.
    """
    problems: dict[str, str] = {}
    body: dict[str, Any] = {}
    for name, check in (
        ("prompt", lambda: _prompt(prompt)),
        ("seed", lambda: _seed(seed.strip())),
        ("temperature", lambda: _temperature(temperature)),
        ("num_chars", lambda: _num_chars(num_chars, max_num_chars)),
        ("top_k", lambda: _top_k(top_k)),
        ("top_p", lambda: _top_p(top_p)),
    ):
        try:
            value = check()
        except ValueError as exc:
            problems[name] = str(exc)
        else:
            body |= {} if value is None else {name: value}
    return CheckedForm(body={} if problems else {**body, "stream": True}, problems=problems)


# Each check returns the value to send, None to leave it to the API, or raises the sentence to show.


def _prompt(text: str) -> str | None:
    if len(text) > MAX_PROMPT_CHARS:
        raise ValueError(f"At most {MAX_PROMPT_CHARS:,} characters; these are {len(text):,}.")
    return text or None


def _seed(text: str) -> int:
    if not text:
        return roll_seed()
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise ValueError(f"A whole number from 0 to {MAX_SEED}, or empty for a random one.")
    if int(text) > MAX_SEED:
        raise ValueError(f"At most {MAX_SEED}.")
    return int(text)


def _temperature(number: float | None) -> float:
    if number is None or not 0 <= number <= MAX_TEMPERATURE:
        raise ValueError("A number from 0 to 2; 0 always takes the likeliest character.")
    return round(float(number), 6)


def _num_chars(number: float | None, largest: int) -> int:
    if number is None or not 1 <= number <= largest or int(number) != number:
        raise ValueError(f"A whole number from 1 to {largest:,}.")
    return int(number)


def _top_k(number: float | None) -> int | None:
    if number is not None and (not 1 <= number <= MAX_TOP_K or int(number) != number):
        raise ValueError(f"A whole number from 1 to {MAX_TOP_K:,}, or empty for all.")
    return None if number is None else int(number)


def _top_p(number: float | None) -> float | None:
    if number is not None and not 0 < number <= 1:
        raise ValueError("A number above 0 and up to 1, or empty for all.")
    return None if number is None else round(float(number), 6)


def continued(body: Mapping[str, Any], text: str, seed: int) -> dict[str, Any]:
    """Return the body that writes on from where `text`, the answer to `body`, ended.

    The model is given the end of prompt and text, as much as a prompt may hold.
    """
    prompt = (str(body.get("prompt", "")) + text)[-MAX_PROMPT_CHARS:]
    return {**body, "prompt": prompt, "seed": seed}
