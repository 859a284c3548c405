"""`Idempotency-Key`: a request made again within 24 hours is answered again and charged once.

What is kept of it, in the limiter's own call, is a digest, the seed that was drawn and what was
charged; the seed brings the text back. A key is the caller's own: two API keys never meet. A value
that is no such key is refused by name, never ignored. (draft-ietf-httpapi-idempotency-key-header.)
"""

from __future__ import annotations

import hashlib
import re

from api.call import Call
from api.errors import FieldError, ProblemError
from api.limits.policy import Once
from api.schemas import Body

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"  # on an answer whose characters were all or in part paid before

# A structured-field string, or the same without its quotes: then no comma, by which WSGI joins
# repeated fields.
_KEY = re.compile(
    r'"([\x20-\x21\x23-\x5b\x5d-\x7e]{1,255})"|([\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]{1,255})'
)


def once(call: Call, body: Body, seed: int) -> Once | None:
    """Return what identifies this request; None if it has no idempotency key.

    `seed` was drawn for it. Raise ProblemError invalid_request.
    """
    value = call.environ.get("HTTP_IDEMPOTENCY_KEY")
    if value is None:
        return None
    match = _KEY.fullmatch(value)
    if match is None:
        rule = "must be one string of 1 to 255 printable ASCII characters"
        raise ProblemError("invalid_request", errors=[FieldError(HEADER, rule)])
    key = match[1] or match[2]
    # The API key's id is in the record's name already. The idempotency key salts the digest, which
    # nobody who reads Redis can therefore test a guessed prompt against.
    path = "/" + call.environ["PATH_INFO"].lstrip("/")  # as it is routed: //generate is the same
    request_digest = _digest(key, path, body.model_dump_json())
    return Once(_digest(call.principal.key_id, key)[:32], request_digest, seed)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
