"""What a body may hold, checked once and strictly; anything else is refused by name.

Integers must be JSON integers (16.0 is one, "16" and true are not); unknown fields, duplicate
fields, NaN and text that is not UTF-8 are refused. A refusal names the field and never repeats
what was sent.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic import ValidationError as PydanticError

from api.errors import FieldError, ProblemError
from auth.admin_rotation import DEADLINE_SECONDS, GRACE_SECONDS
from auth.plans import MAX_LIMIT, MAX_RATE

MAX_PROMPT_CHARS = 4000
MAX_SEED = 2**63 - 1
MAX_STOPS = 4
MAX_STOP_CHARS = 200
MAX_NUM_CHARS = 10**12  # a number that Redis's arithmetic holds; the plan's maximum is far below
DEFAULT_NUM_CHARS = 200
DEFAULT_TEMPERATURE = 0.8

# An unknown field's name comes from the caller; one that may be a key or a prompt is not shown.
_SHOWN_FIELD = re.compile(r"(?!qg_)[A-Za-z_][A-Za-z0-9_-]{0,31}")


_EXACT_FLOAT = 2**53  # beyond it a float has lost digits that the caller wrote


def _integral(value: object) -> object:
    """JSON has one kind of number: 16.0 is an integer (JSON Schema 2020-12, 4.2.3)."""
    if not isinstance(value, float) or not value.is_integer() or abs(value) > _EXACT_FLOAT:
        return value
    return int(value)


JsonInt = Annotated[int, BeforeValidator(_integral)]
# Bounds first: behind the validator pydantic leaves them out of an optional field's JSON schema.
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), BeforeValidator(_integral)]
Positive = Annotated[int, Field(ge=1), BeforeValidator(_integral)]
One = Annotated[int, Field(ge=1, le=1), BeforeValidator(_integral)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=MAX_STOP_CHARS)]
Stops = Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None


class Body(BaseModel):
    """A request body: strict types, no unknown field."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Body):
    """How a stream of `POST /v1/completions` is answered."""

    include_usage: bool = False


class GenerateRequest(Body):
    """`POST /generate`, contract section 5."""

    prompt: str = Field(
        default="",
        max_length=MAX_PROMPT_CHARS,
        description="What to continue; empty stands for the model's start text.",
    )
    seed: Seed | None = Field(
        default=None, description="The same seed gives the same text; chosen at random if absent."
    )
    temperature: float = Field(
        default=DEFAULT_TEMPERATURE, ge=0, le=2, description="0 is greedy, higher is bolder."
    )
    num_chars: JsonInt = Field(
        default=DEFAULT_NUM_CHARS,
        ge=1,
        le=MAX_NUM_CHARS,
        description="Characters (code points) to write, at most the plan's maximum.",
    )
    top_k: Positive | None = Field(
        default=None, description="Draw among the k likeliest tokens only."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Draw among the likeliest tokens that add up to p."
    )
    stop: Stops = Field(default=None, description="End before the first of these strings.")
    stream: bool = Field(default=False, description="Answer with server-sent events.")


class RotateRequest(Body):
    """`POST /v1/key/rotate` and the admin's; absent fields have the command line's defaults."""

    deadline_seconds: JsonInt = Field(
        default=DEADLINE_SECONDS, ge=0, description="The old secret never works past this; 0: now."
    )
    grace_seconds: JsonInt = Field(
        default=GRACE_SECONDS, ge=0, description="It works this long after the new one's first use."
    )
    force: bool = Field(default=False, description="Rotate although two secrets live.")
    web_copy: bool = Field(
        default=False,
        description="The caller keeps the new key for the web users it is forwarded for.",
    )


class TenantRequest(Body):
    """`POST /v1/admin/tenants`."""

    tenant: str
    plan: str


class TenantChange(Body):
    """`PATCH /v1/admin/tenants/<tenant>`."""

    plan: str | None = None
    state: Literal["active", "disabled"] | None = None


class KeyRequest(Body):
    """`POST /v1/admin/keys`; times are Unix seconds."""

    tenant: str
    name: str
    scopes: list[str]
    plan: str | None = None
    expires_at: JsonInt | None = None
    allowed_cidrs: list[str] = Field(default_factory=list)


class KeyChange(Body):
    """`PATCH /v1/admin/keys/<key_id>`; a null `plan` is the tenant's, a null `expires_at` never."""

    name: str | None = None
    scopes: list[str] | None = None
    plan: str | None = None
    expires_at: JsonInt | None = None
    allowed_cidrs: list[str] | None = None


Rate = Annotated[int, Field(ge=1, le=MAX_RATE), BeforeValidator(_integral)] | None
Amount = Annotated[int, Field(ge=1, le=MAX_LIMIT), BeforeValidator(_integral)] | None


class CapsChange(Body):
    """`PATCH /v1/admin/tenants/<tenant>/caps`: across all keys of the tenant."""

    requests_per_minute: Rate = None
    chars_per_minute: Rate = None
    chars_per_day: Amount = None
    chars_per_month: Amount = None
    concurrency: Amount = None


class LimitsChange(CapsChange):
    """`PATCH /v1/admin/keys/<key_id>/limits`: in the place of the plan's."""

    max_num_chars: Amount = None
    weight: Amount = None


class RevokeRequest(Body):
    """`POST /v1/admin/keys/<key_id>/revoke`."""

    reason: str | None = Field(default=None, max_length=500)


class CompletionsRequest(Body):
    """`POST /v1/completions`: the OpenAI API's fields, those that mean nothing here neutral only.

    A token of that API is a character.
    """

    model: str | None = Field(default=None, max_length=200, description="There is one model.")
    prompt: str = Field(default="", max_length=MAX_PROMPT_CHARS)
    max_tokens: JsonInt = Field(
        default=DEFAULT_NUM_CHARS, ge=1, le=MAX_NUM_CHARS, description="Characters to write."
    )
    temperature: float = Field(default=DEFAULT_TEMPERATURE, ge=0, le=2)
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Seed | None = None
    stop: Stops = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: One | None = None
    best_of: One | None = None
    echo: bool = False
    logprobs: None = None
    suffix: None = None
    logit_bias: None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    user: str | None = Field(default=None, max_length=200, description="Neither kept nor used.")


def stops(stop: Stops) -> tuple[str, ...]:
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def seed_or_random(seed: int | None) -> int:
    return secrets.randbelow(MAX_SEED + 1) if seed is None else seed


B = TypeVar("B", bound=Body)


def parse(schema: type[B], body: bytes) -> B:
    """Return the body as `schema`. Raise ProblemError malformed_json or invalid_request."""
    try:
        document = _JSON.decode(body.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise ProblemError("malformed_json") from exc
    if not isinstance(document, dict):
        raise ProblemError("malformed_json")
    try:
        return schema.model_validate(document)
    except PydanticError as exc:
        raise ProblemError("invalid_request", errors=_field_errors(exc)) from exc


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a field is given twice")
    return document


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# Made once: json.loads makes a decoder for each call that asks for hooks.
_JSON = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_no_constant)


def shown_field(name: str) -> str:
    """Return the name that a caller gave to something, as an answer may repeat it."""
    return name if _SHOWN_FIELD.fullmatch(name) else "(a name that is not shown)"


def _field_errors(exc: PydanticError) -> list[FieldError]:
    """One error per field: the branches of a union each report their own."""
    found: dict[str, str] = {}
    for error in exc.errors(include_input=False, include_url=False, include_context=False):
        field = str(error["loc"][0]) if error["loc"] else "body"
        field = shown_field(field)
        message = "This field is not known" if error["type"] == "extra_forbidden" else error["msg"]
        found[field] = f"{found[field]}; or: {message}" if field in found else message
    return [FieldError(field, message) for field, message in found.items()]
