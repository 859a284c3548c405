"""The names of the Redis keys that the keyring and the limiter share. Pure.

None of them holds a key, a secret, a prompt or a text; every one is written with a TTL.
"""

from __future__ import annotations


def keyring_pointer(document: str) -> str:
    """Where the current version of a keyring is told: an integer that grows with every change.

    `document` is `Principal.keyring_shard`, the value to compare is `Principal.keyring_version`.
    """
    return f"qg:keyring:{document}"


def keyring_versions(document: str) -> str:
    """Hash: for each document of the keyring, the number of its current secret version."""
    return f"qg:keyring:{document}:versions"


def revoked_marker(key_id: str) -> str:
    """Exists while a revocation may not yet have reached every instance's keyring."""
    return f"qg:revoked:{key_id}"


def rotation_first_use(key_id: str, started_at: int) -> str:
    """Unix milliseconds of the first use of the secret that the rotation begun then issued."""
    return f"qg:rotation:{key_id}:{started_at}"


def last_used(tenant: str, key_id: str) -> str:
    """Hash of a key's last admitted request: `at` (Unix seconds) and `address`."""
    return f"qg:{{{tenant}}}:{key_id}:last-used"
