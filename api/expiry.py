"""Tell of keys that expire soon: a header on each answer, a log line 14, 3 and 1 days before.

The log has one line for each key and day, not one for each request. Nothing here can refuse.
"""

from __future__ import annotations

from email.utils import formatdate

import structlog

from auth.principal import Principal
from auth.views import warning_days

EXPIRES_HEADER = "X-API-Key-Expires"

log = structlog.get_logger()


class ExpiryNotices:
    """What one process has told already; as large as there are keys that expire soon."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def headers(self, principal: Principal, now: float) -> dict[str, str]:
        """Return the header for a key that expires within 14 days, else none."""
        expires_at = principal.expires_at
        days = warning_days(expires_at, int(now))
        if expires_at is None or days is None:
            self._told.pop(principal.key_id, None)
            return {}
        if self._told.get(principal.key_id) != days:
            self._told[principal.key_id] = days
            log.warning("key.expires_soon", within_days=days, expires_at=expires_at)
        return {EXPIRES_HEADER: formatdate(expires_at, usegmt=True)}
