"""Is the process alive, can it serve, what does it speak? Anyone may ask; nothing is charged."""

from __future__ import annotations

import math
from typing import Any

from flask import Blueprint, Response, jsonify

from api import VERSION
from api.access import public, public_probe
from api.parts import Keyring, service

blueprint = Blueprint("health", __name__)


@blueprint.get("/health")
@public
def health() -> Response:
    """Alive: true while the process lives, also while the model loads."""
    return jsonify({"status": "ok", "version": VERSION, "model": service().lifecycle.model_name})


@blueprint.get("/ready")
@public_probe
def ready() -> tuple[Response, int]:
    """Able to serve: a model, a keyring, and Redis where limits cannot do without it."""
    parts = service()
    redis = "ok" if parts.limiter.ping() else "away"
    checks = {
        "model": parts.lifecycle.model_check,
        "keyring": "ok" if parts.keyring.ready else parts.keyring.why_not_ready or "loading",
        "redis": redis,
    }
    needs_redis = parts.settings.redis_outage == "closed"
    good = (
        checks["model"] == "ok"
        and checks["keyring"] == "ok"
        and (redis == "ok" or not needs_redis)
        and not parts.lifecycle.draining
    )
    body = {"ready": good, "checks": checks, "keyring": _keyring(parts.keyring)}
    return jsonify(body), 200 if good else 503


def _keyring(keyring: Keyring) -> dict[str, Any]:
    """Tell how old the keyring is that serves; why it is not newer is for the log alone."""
    age = keyring.age_seconds
    return {
        "age_seconds": None if math.isinf(age) else round(age),
        "max_age_seconds": round(keyring.max_age_seconds),
        "stale": keyring.problem is not None,
    }
