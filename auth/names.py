"""The names of every secret that Quillgate keeps, from one prefix. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Names:
    """Secret names under one prefix."""

    prefix: str

    @property
    def keyring(self) -> str:
        """The keyring as a whole: what its Redis pointer is named after."""
        return self.prefix

    @property
    def directory(self) -> str:
        return f"{self.prefix}-tenants"

    def shard(self, index: int) -> str:
        return f"{self.prefix}-keyring-{index:03d}"

    def pepper(self, pepper_id: str) -> str:
        return f"{self.prefix}-pepper-{pepper_id}"

    @property
    def users(self) -> str:
        return f"{self.prefix}-users"

    def web_key(self, user: str) -> str:
        """Where a web user's own key is kept in clear, for the web app's identity alone."""
        return f"{self.prefix}-webkey-{user}"

    @property
    def audit(self) -> str:
        return f"{self.prefix}-audit"

    @property
    def audit_archive(self) -> str:
        """The filled segments of the audit chain, one version each."""
        return f"{self.prefix}-audit-archive"
