"""`python -m api`: check the settings, see that there is a Redis, and serve until SIGTERM.

A setting that is wrong, or no Redis to be had, is one line on stderr and exit status 1.
"""

from __future__ import annotations

import sys

from api.config import Settings
from api.telemetry import configure_logging
from auth.config import SettingsError


def main() -> int:
    try:
        settings = Settings.from_env()
    except SettingsError as exc:
        print(f"quillgate api: {exc}", file=sys.stderr)
        return 1
    configure_logging(settings.log_format)

    from auth.embedded_redis import EmbeddedRedis, EmbeddedRedisError, ensure

    embedded: EmbeddedRedis | None = None
    redis_url = settings.auth.redis_url
    if redis_url is None:
        try:
            embedded = ensure(settings.auth.home)
        except (EmbeddedRedisError, OSError) as exc:
            print(f"quillgate api: {exc}", file=sys.stderr)
            return 1
        redis_url = embedded.url

    from api.app import build
    from api.gunicorn_conf import ServiceApplication

    url = redis_url
    ServiceApplication(
        settings,
        make_app=lambda: build(settings, url),
        on_exit=embedded.close if embedded is not None else lambda: None,
    ).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
