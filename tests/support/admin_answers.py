"""What an API with something in it answers on the pages that list things."""

from __future__ import annotations

from typing import Any

ADMIN: dict[str, Any] = {
    "GET /v1/admin/keys": {
        "keys": [
            {
                "key_id": "AAAAAAAAAAAA",
                "masked": "qg_live_AAAAAAAAAAAA_...k3Xq",
                "name": "ci",
                "tenant": "acme",
                "plan": "standard",
                "state": "active",
                "scopes": ["generate"],
                "created_at": 1_760_000_000,
                "expires_in_days": 3,
            }
        ]
    },
    "GET /v1/admin/tenants": {
        "tenants": [{"tenant": "acme", "plan": "standard", "state": "active"}],
    },
    "GET /v1/admin/usage": {"tenants": [{"tenant": "acme", "chars": [5, 30, 12, 44] * 7}]},
    "GET /v1/admin/users": {"users": [{"user": "ada", "tenant": "acme", "roles": ["user"]}]},
    "GET /v1/admin/load": {
        "running": 3,
        "waiting": 1,
        "chars_per_second": 5120.5,
        "slots": 8,
        "refused": {"rate_limited": 12, "invalid_key": 2},
    },
    "GET /v1/admin/audit": {"records": [{"number": 1, "action": "key.issue", "at": 1_760_000_000}]},
    "GET /v1/usage": {
        "from": "2026-11-01",
        "to": "2026-11-30",
        "items": [
            {"day": f"2026-11-{day:02}", "chars": day * 997 % 8000, "requests": 3, "refused": 0}
            for day in range(1, 31)
        ],
        "total": {"chars": 120_000, "requests": 90, "refused": 0},
    },
}
