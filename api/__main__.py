"""`python -m api`: check the settings, see that there is a Redis, and serve until SIGTERM.

A setting that is wrong, or no Redis to be had, is one line on stderr and exit status 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from api.app import build
from api.config import Settings
from api.gunicorn_conf import ServiceApplication
from api.telemetry import configure_logging
from auth.embedded_redis import EmbeddedRedisError, ensure
from auth.plans import load_plans


def main() -> int:
    try:
        settings = Settings.from_env()
        load_plans(settings.auth.plans_file)  # now, so that a wrong one is one line
        redis_url, let_go = _redis(settings)
    except (ValueError, EmbeddedRedisError, OSError) as exc:
        print(f"quillgate api: {exc}", file=sys.stderr)
        return 1
    configure_logging(settings.log_format)
    ServiceApplication(settings, make_app=lambda: build(settings, redis_url), on_exit=let_go).run()
    return 0


def _redis(settings: Settings) -> tuple[str, Callable[[], None]]:
    """Return the Redis to use, and how to let go of it. Raise EmbeddedRedisError or OSError."""
    if settings.auth.redis_url is not None:
        return settings.auth.redis_url, lambda: None
    embedded = ensure(settings.auth.home)
    return embedded.url, embedded.close


if __name__ == "__main__":
    sys.exit(main())
