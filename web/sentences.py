"""Each kind of error as one plain sentence: what happened, and what the person can do."""

from __future__ import annotations

import re

from web.api_client import ApiError
from web.unknown_chars import told_unknown, unknown_in

# What the request's fields are called on the page.
FIELD_LABELS = {
    "prompt": "Prompt",
    "seed": "Seed",
    "temperature": "Temperature",
    "num_chars": "Number of characters",
    "top_k": "Top k",
    "top_p": "Top p",
}

MAX_TOLD_CHARS = 500  # of a sentence of the API's

_BY_CODE = {
    "unreachable": "The API cannot be reached. Try again in a minute.",
    "stalled": "The API stopped answering. What came until then is kept; try again.",
    "interrupted": "The connection to the API broke off. What came until then is kept; try again.",
    "bad_answer": "Something that is not the API answered. Tell your administrator.",
    "no_key": "No API key is assigned to you. Ask your administrator for one.",
    "key_unreadable": "Your API key cannot be read at the moment. Try again in a minute.",
    "key_unwritable": "The new key could not be kept; the one you have goes on working. Try later.",
    "conflict": "The API refused this as things are now. Ask your administrator.",
    "invalid_key": "Your API key was refused. Ask your administrator for a new one.",
    "missing_scope": "Your API key does not allow this. Ask your administrator.",
    "address_not_allowed": "Your API key may not be used from this web app.",
    "tenant_disabled": "Your organisation's access is switched off. Ask your administrator.",
    "invalid_request": "The API did not accept these values.",
    "prompt_not_encodable": "The prompt has characters that the model does not know.",
    "body_too_large": "This is too long for one request. Shorten the prompt.",
    "exceeds_plan": "This is more than your plan ever allows at once. Ask for fewer characters.",
    "rate_limited": "Your plan's rate is used up for the moment.",
    "quota_exceeded": "Your plan's quota is used up.",
    "too_many_concurrent": "Your plan's generations are all under way already.",
    "too_many_failures": "Too many refused keys came from this web app; it has to wait.",
    "overloaded": "The generator is busy. Try again shortly.",
    "draining": "The API is restarting. Try again shortly.",
    "limiter_unavailable": "Limits cannot be checked at the moment. Try again shortly.",
    "unknown_plan": "The service does not know this key's plan: tell its operator.",
    "keyring_unavailable": "API keys cannot be checked at the moment. Try again shortly.",
    "model_loading": "The model is still being loaded. Try again shortly.",
    "internal_error": "Something failed inside the API. Try again; it helps to say the reference.",
}
_BY_STATUS = {
    401: _BY_CODE["invalid_key"],
    403: _BY_CODE["missing_scope"],
    404: "This API does not offer that.",
    413: _BY_CODE["body_too_large"],
    422: _BY_CODE["invalid_request"],
    429: _BY_CODE["rate_limited"],
    503: _BY_CODE["overloaded"],
}


def sentence(error: ApiError) -> str:
    """Return what the person is told: never the API's own words, which are for programs."""
    if error.code == "bad_answer":  # no problem of the API's: it came from elsewhere
        return _BY_CODE["overloaded" if error.status in {429, 503} else "bad_answer"]
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    return _BY_STATUS.get(error.status, _BY_CODE["bad_answer"])


def beside_fields(error: ApiError | None) -> dict[str, str]:
    """Return what is wrong with single fields of the page, by the request's field name."""
    if error is None or error.status != 422:
        return {}
    found = {name: text for name, text in error.fields.items() if name in FIELD_LABELS}
    if not found and error.code == "prompt_not_encodable":
        found["prompt"] = told_unknown(error.detail) or error.detail or sentence(error)
    if not found and error.code == "exceeds_plan":
        found["num_chars"] = error.detail or sentence(error)
    return found


def unknown_chars(error: ApiError) -> list[str]:
    """Return the characters for which the API refused a prompt."""
    return unknown_in(error.detail) if error.code == "prompt_not_encodable" else []


def label_of(field: str) -> str:
    """Return what a field of the form is called on the page."""
    return FIELD_LABELS.get(field, "Second temperature")


def told_by_api(error: ApiError) -> str:
    """Return the API's own sentence, which is for people here, with commands shown as such."""
    parts = " ".join(error.detail.split())[:MAX_TOLD_CHARS].split("`")
    shown = [
        f"`{part}`" if number % 2 and part and number < len(parts) - 1 else plain(part, None)
        for number, part in enumerate(parts)
    ]
    return "".join(shown)


def duration(seconds: float) -> str:
    """Return a waiting time as a person says it."""
    whole = max(1, -int(-seconds // 1))
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{-(-whole // 60)} min"
    if whole < 172_800:
        return f"{-(-whole // 3600)} h"
    return f"{-(-whole // 86_400)} days"


def plain(text: str, limit: int | None = 300) -> str:
    """Return text so that Markdown shows it as it is, on one line; without a limit all of it."""
    shown = text if limit is None else " ".join(text.split())
    shown = shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"
    return re.sub(r"[^\w .,;…]|_", lambda match: f"&#{ord(match[0])};", shown)
