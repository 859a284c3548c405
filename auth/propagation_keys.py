"""The names of the Redis keys that the keyring and the limiter share. Pure.

All that one request needs carries one hash tag, so that a script may touch it on Redis Cluster
too. A tenant's tag is one of `GROUPS`: so few that what everybody must know (the keyring's
pointer) can be told under each of them, also to a tenant that nobody has heard of yet.

None of them holds a key, a secret, a prompt or a text; every one is written with a TTL.
"""

from __future__ import annotations

import zlib

GROUPS = 64


def tenant_group(tenant: str) -> int:
    """Return which hash tag the tenant's state is under."""
    return zlib.crc32(tenant.encode()) % GROUPS


def tenant_base(tenant: str) -> str:
    """What the names of all of a tenant's state begin with."""
    return f"qg:{{{tenant_group(tenant):02d}}}:{tenant}"


def keyring_pointer(document: str) -> str:
    """Where the current version of a keyring is told: an integer that grows with every change.

    `document` is `Principal.keyring_shard`, the value to compare is `Principal.keyring_version`.
    """
    return f"qg:{{keyring:{document}}}"


def keyring_versions(document: str) -> str:
    """Hash: for each document of the keyring, the number of its current secret version."""
    return f"{keyring_pointer(document)}:versions"


def uses_since(document: str) -> str:
    """Unix seconds since which Redis has noted uses: it was new or emptied then. 0: it was not."""
    return f"{keyring_pointer(document)}:uses-since"


def keyring_pointer_copy(document: str, group: int) -> str:
    """The pointer again, where the scripts of that group's tenants may read it."""
    return f"qg:{{{group:02d}}}:keyring:{document}"


def revoked_marker(tenant: str, key_id: str) -> str:
    """Exists while a revocation may not yet have reached every instance's keyring."""
    return _revoked_in(tenant_group(tenant), key_id)


def revoked_markers(key_id: str) -> list[str]:
    """Every name that the marker can have: of a key whose tenant cannot be read just now."""
    return [_revoked_in(group, key_id) for group in range(GROUPS)]


def _revoked_in(group: int, key_id: str) -> str:
    return f"qg:{{{group:02d}}}:revoked:{key_id}"


def rotation_first_use(tenant: str, key_id: str, started_at: int) -> str:
    """Unix milliseconds of the first use of the secret that the rotation begun then issued."""
    return f"{tenant_base(tenant)}:{key_id}:rotation:{started_at}"


def rotation_begun(tenant: str, key_id: str, started_at: int) -> str:
    """Exists as long as Redis would know of the first use: without it, it was emptied since."""
    return f"{rotation_first_use(tenant, key_id, started_at)}:begun"


def last_used(tenant: str, key_id: str) -> str:
    """Hash of a key's last admitted request: `at` (Unix seconds) and `address`."""
    return f"{tenant_base(tenant)}:{key_id}:last-used"


def ledger_name(tenant: str, key_id: str) -> str:
    """Hash of what a key used: `<day>:chars|requests|refused` and `<month>:chars`.

    Without a key id: of what all keys of a tenant used, kept while it has caps.
    """
    return f"{tenant_base(tenant)}:{key_id}:usage" if key_id else f"{tenant_base(tenant)}:usage"


def failed_keys(hour: int) -> tuple[str, str]:
    """Sorted set of an hour's failed authentications by `reason address`, and hash by reason."""
    return f"qg:{{failures}}:{hour}", f"qg:{{failures}}:{hour}:reasons"
