"""One shard of the keyring: key id -> record, immutable, with its codec and the proof of a secret.

Pure. A record holds digests of secrets, never a secret. A body that is not exactly what `to_body`
writes is refused whole with MalformedKeyringError: a malformed shard never replaces a good one.
"""

from __future__ import annotations

import functools
import hmac
import ipaddress
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from auth.api_key import LABELS, digest
from auth.errors import MalformedKeyringError
from auth.fields import NAME, Fields
from auth.plans import LIMITS, Overrides, checked_limits
from auth.principal import Rotation, Scope, SecretRole

MAX_LIVE_SECRETS = 2
KEY_ID = re.compile(r"[0-9A-Za-z]{12}")
KEY_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")

_MAPPED_BITS = 96  # of ::ffff:0:0/96 (RFC 4291, 2.5.5.2)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TAIL = re.compile(r"[0-9A-Za-z]{4}")
_RECORD_FIELDS = (
    *("tenant", "name", "plan", "scopes", "label", "created_at", "expires_at", "allowed_cidrs"),
    *("forwarded_for", "state", "revoked_at", "secrets", "rotation", "limits"),
)


class KeyState(StrEnum):
    """Whether a key may be used at all."""

    ACTIVE = "active"
    REVOKED = "revoked"


PEPPER_ENDED = "pepper ended"  # shown for an active key that cannot be proven until it is rotated


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """What is kept of one secret of a key; `tail` is the end of the whole key, for people."""

    digest: str = field(repr=False)
    pepper_id: str
    created_at: int
    tail: str


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key; times are Unix seconds, `plan` None means the tenant's."""

    key_id: str
    tenant: str
    name: str
    scopes: frozenset[Scope]
    label: str
    created_at: int
    secrets: tuple[StoredSecret, ...]  # oldest first: one, or two during a rotation
    plan: str | None = None
    expires_at: int | None = None
    allowed_cidrs: tuple[str, ...] = ()
    forwarded_for: tuple[str, ...] = ()  # the web users for whom the web app sends it
    state: KeyState = KeyState.ACTIVE
    revoked_at: int | None = None
    rotation: Rotation | None = None  # set exactly while there are two secrets
    limits: Overrides = ()  # in the place of the plan's


# What an unknown id is compared with, so that it costs what a known one does.
_NO_SECRET = StoredSecret(digest="-" * 64, pepper_id="", created_at=0, tail="")
_NO_DIGEST = "0" * 64


class KeyRing(Mapping[str, KeyRecord]):
    """The records of one shard by key id."""

    __slots__ = ("_records",)

    def __init__(self, records: Mapping[str, KeyRecord] = MappingProxyType({})) -> None:
        self._records = MappingProxyType(dict(records))

    def __getitem__(self, key_id: str) -> KeyRecord:
        return self._records[key_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def with_record(self, record: KeyRecord) -> KeyRing:
        """Return a ring in which `record` is new or replaces the one of its id."""
        return KeyRing({**self._records, record.key_id: record})

    def verify(
        self, key_id: str, secret: str, peppers: Mapping[str, bytes]
    ) -> tuple[KeyRecord, SecretRole] | None:
        """Return whose secret it is and which of the key's secrets; None if nobody's.

        The same digests and comparisons are made for known and unknown ids, right and wrong
        secrets. Whether the key may be used (state, expiry, deadline) is for the caller.
        """
        digests = {pepper_id: digest(secret, pepper) for pepper_id, pepper in peppers.items()}
        record = self._records.get(key_id)
        stored = record.secrets if record is not None else ()
        matched = None
        for position in range(MAX_LIVE_SECRETS):
            one = stored[position] if position < len(stored) else _NO_SECRET
            if hmac.compare_digest(digests.get(one.pepper_id, _NO_DIGEST), one.digest):
                matched = position
        if record is None or matched is None:
            return None
        if len(stored) < MAX_LIVE_SECRETS:
            return record, SecretRole.ONLY
        return record, SecretRole.OLD if matched == 0 else SecretRole.NEW


def shard_of(key_id: str, shards: int) -> int:
    """Return which of `shards` shards holds the key."""
    return zlib.crc32(key_id.encode("ascii")) % shards


def settled(record: KeyRecord, now: float) -> KeyRecord:
    """Return the record without a rotation whose old secret has ended, as far as it says."""
    if record.rotation is None or now < record.rotation.ends_at:
        return record
    return replace(record, secrets=record.secrets[-1:], rotation=None)


def address_allowed(address: str, cidrs: tuple[str, ...]) -> bool:
    """Say whether an address is in one of the networks; an empty list allows every address."""
    if not cidrs:
        return True
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped  # how a dual-stack socket tells of an IPv4 caller
    return any(ip in _network(cidr) for cidr in cidrs)


def canonical_cidr(text: str) -> str:
    """Return a network or single address in its one spelling. Raise ValueError."""
    return str(_network(text))


@functools.lru_cache(maxsize=4096)
def _network(cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    network = ipaddress.ip_network(cidr)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        first = network.network_address.ipv4_mapped
        if first is not None:  # IPv4 as a dual-stack socket spells it: such callers are IPv4 to us
            return ipaddress.IPv4Network((first, network.prefixlen - _MAPPED_BITS))
    return network


def to_body(ring: KeyRing) -> dict[str, Any]:
    """Return the ring as a document's body; what is absent has its default."""
    return {"keys": {key_id: _record_to_json(record) for key_id, record in ring.items()}}


def from_body(body: Mapping[str, Any]) -> KeyRing:
    """Return the ring that a document's body holds. Raise MalformedKeyringError."""
    try:
        table = Fields("keyring", body, ("keys",)).table("keys")
        return KeyRing(
            {key_id: _record_from_json(key_id, value) for key_id, value in table.items()}
        )
    except ValueError as exc:
        raise MalformedKeyringError(str(exc)) from exc


def _record_to_json(record: KeyRecord) -> dict[str, Any]:
    value: dict[str, Any] = {
        "tenant": record.tenant,
        "name": record.name,
        "scopes": sorted(record.scopes),
        "label": record.label,
        "created_at": record.created_at,
        "state": record.state.value,
        "secrets": [
            [one.digest, one.pepper_id, one.created_at, one.tail] for one in record.secrets
        ],
    }
    optional: dict[str, Any] = {
        "plan": record.plan,
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
        "allowed_cidrs": list(record.allowed_cidrs) or None,
        "forwarded_for": list(record.forwarded_for) or None,
        "limits": dict(record.limits) or None,
    }
    if record.rotation is not None:
        optional["rotation"] = record.rotation.as_list()
    return value | {name: one for name, one in optional.items() if one is not None}


def _record_from_json(key_id: str, value: object) -> KeyRecord:
    if not KEY_ID.fullmatch(key_id):
        raise ValueError("a key id is not 12 base62 characters")
    where = f"key {key_id}"
    fields = Fields(where, value, _RECORD_FIELDS)
    label = fields.text("label")
    if label not in LABELS:
        raise ValueError(f"{where}.label is not known")
    cidrs = fields.texts("allowed_cidrs")
    for cidr in cidrs:
        _network(cidr)
    stored = tuple(_secret_from_json(where, one) for one in fields.items("secrets"))
    rotation = _rotation_from_json(where, fields.value("rotation"))
    if len(stored) != (1 if rotation is None else MAX_LIVE_SECRETS):
        raise ValueError(f"{where}.secrets does not fit its rotation")
    return KeyRecord(
        key_id=key_id,
        tenant=fields.text("tenant", NAME),
        name=fields.text("name", KEY_NAME),
        scopes=frozenset(Scope(one) for one in fields.texts("scopes")),
        label=label,
        created_at=fields.integer("created_at"),
        secrets=stored,
        plan=fields.optional_text("plan"),
        expires_at=fields.optional_integer("expires_at"),
        allowed_cidrs=cidrs,
        forwarded_for=fields.texts("forwarded_for"),
        state=KeyState(fields.text("state")),
        revoked_at=fields.optional_integer("revoked_at"),
        rotation=rotation,
        limits=checked_limits(where, fields.optional_table("limits"), LIMITS),
    )


def _secret_from_json(where: str, value: object) -> StoredSecret:
    match value:
        case [str(hexed), str(pepper_id), int(created_at), str(tail)] if (
            _DIGEST.fullmatch(hexed) and _TAIL.fullmatch(tail) and pepper_id
        ):
            return StoredSecret(hexed, pepper_id, created_at, tail)
    raise ValueError(f"{where}.secrets is wrong")


def _rotation_from_json(where: str, value: object) -> Rotation | None:
    match value:
        case None:
            return None
        case [int(started_at), int(deadline), int(grace_seconds)]:
            return Rotation(started_at, deadline, grace_seconds)
        case [int(started_at), int(deadline), int(grace_seconds), int(first_used_at)]:
            return Rotation(started_at, deadline, grace_seconds, first_used_at)
    raise ValueError(f"{where}.rotation is wrong")
