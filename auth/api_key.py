"""The API key's format: mint, parse, checksum, digest, mask. Pure; needs nothing that can fail.

    qg_<label>_<key id>_<secret>_<checksum>

12 base62 characters of id, 43 of secret (256 bits), and six of CRC-32 over every character before
them, the last underscore included, so that a mistyped key or a scanner's false hit is told from a
real one without a look-up. An `ApiKey` never shows its secret unless asked to `reveal` it.
"""

from __future__ import annotations

import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field

from auth.errors import InvalidApiKeyError

LABELS = ("live", "test")
KEY_ID_CHARS = 12
SECRET_CHARS = 43  # 62 ** 43 > 2 ** 256
CHECKSUM_CHARS = 6  # 62 ** 6 > 2 ** 32
TAIL_CHARS = 4  # of a whole key: what a person recognises theirs by

# Looser than the shape of a key, to catch truncated ones too where none may be.
KEY_SHAPE = re.compile(r"qg_[a-z]{1,8}_[0-9A-Za-z]{12}_[0-9A-Za-z]{6,}(?:_[0-9A-Za-z]{1,6})?")
PATTERN = re.compile(
    r"qg_(?P<label>live|test)_(?P<key_id>[0-9A-Za-z]{12})_(?P<secret>[0-9A-Za-z]{43})"
    r"_(?P<checksum>[0-9A-Za-z]{6})"
)

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PAIRS = [first + second for first in _BASE62 for second in _BASE62]  # two digits at a time


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A whole key; its repr and str leave the secret out."""

    label: str
    key_id: str
    secret: str = field(repr=False)

    def reveal(self) -> str:
        """Return the key as its holder sends it."""
        body = f"qg_{self.label}_{self.key_id}_{self.secret}_"
        return body + _checksum(body)

    @property
    def tail(self) -> str:
        """The last characters of the whole key, safe to keep and to show."""
        return self.reveal()[-TAIL_CHARS:]


def mint(label: str, key_id: str | None = None) -> ApiKey:
    """Return a new key from the system's CSPRNG; with `key_id`, a new secret for that key."""
    if label not in LABELS:
        raise ValueError(f"{label!r} is not a label of keys")
    return ApiKey(label, key_id or _random(KEY_ID_CHARS), _random(SECRET_CHARS))


def parse(text: str) -> ApiKey:
    """Return the key that `text` is. Raise InvalidApiKeyError on a wrong shape or checksum."""
    match = PATTERN.fullmatch(text)
    if match is None:
        raise InvalidApiKeyError("not of the shape of an API key")
    if _checksum(text[:-CHECKSUM_CHARS]) != match["checksum"]:
        raise InvalidApiKeyError("the checksum of the API key does not match")
    return ApiKey(match["label"], match["key_id"], match["secret"])


def digest(secret: str, pepper: bytes) -> str:
    """Return HMAC-SHA-256 of the secret under the pepper, in hex: what the keyring holds.

    A fast digest is enough: the secret is 256 random bits, not a password.
    """
    return hmac.digest(pepper, secret.encode("ascii"), "sha256").hex()


def mask(key_id: str, label: str, tail: str) -> str:
    """Return a key as it may be shown in lists and logs."""
    return f"qg_{label}_{key_id}_...{tail}"


def _random(count: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(count))


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode("ascii"))
    number, last = divmod(number, 62 * 62)
    first, middle = divmod(number, 62 * 62)
    return _PAIRS[first] + _PAIRS[middle] + _PAIRS[last]
