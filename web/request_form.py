"""What a person typed, checked before it is sent; the API checks it again and has the last word.

The browser's own limits on a field are a courtesy: what arrives here may be anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_PROMPT_CHARS = 4000
MAX_SEED = 2**63 - 1
MAX_TEMPERATURE = 2.0
LARGEST_NUM_CHARS = 10_000  # of any built-in plan; used while the user's own is not known


@dataclass(frozen=True, slots=True)
class CheckedForm:
    """Either a body to send, or what is wrong by field name."""

    body: Mapping[str, Any]
    problems: Mapping[str, str]


def check_form(
    *,
    prompt: str,
    seed: str,
    temperature: float | None,
    num_chars: float | None,
    max_num_chars: int,
) -> CheckedForm:
    """Return the body of a streamed POST /generate, or the problems."""
    problems: dict[str, str] = {}
    body: dict[str, Any] = {"stream": True}
    if len(prompt) > MAX_PROMPT_CHARS:
        problems["prompt"] = f"At most {MAX_PROMPT_CHARS} characters; these are {len(prompt)}."
    elif prompt:
        body["prompt"] = prompt
    seed = seed.strip()
    if seed and not (seed.isascii() and seed.isdigit() and len(seed) <= 19):
        problems["seed"] = f"A whole number from 0 to {MAX_SEED}, or empty for a random one."
    elif seed and int(seed) > MAX_SEED:
        problems["seed"] = f"At most {MAX_SEED}."
    elif seed:
        body["seed"] = int(seed)
    if temperature is None or not 0 <= temperature <= MAX_TEMPERATURE:
        problems["temperature"] = "A number from 0 to 2; 0 always takes the likeliest character."
    else:
        body["temperature"] = round(float(temperature), 6)
    if num_chars is None or int(num_chars) != num_chars or not 1 <= num_chars <= max_num_chars:
        problems["num_chars"] = f"A whole number from 1 to {max_num_chars}."
    else:
        body["num_chars"] = int(num_chars)
    return CheckedForm(body={} if problems else body, problems=problems)
