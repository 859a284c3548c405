"""`python -m tests.support.scripted_server`: the shipped gunicorn, worker, guards and limiter
around the scripted engine, for tests that need a generation of a known speed.

`SECONDS_PER_CHAR` is the engine's speed, `ALPHABET` what it writes, `LOAD_SECONDS` how long its
model takes to load, `FAIL_AFTER` how many characters it can write before it breaks.
"""

from __future__ import annotations

import os
import time

from api.app import create_app
from api.config import Settings
from api.gunicorn_conf import ServiceApplication
from api.limits.limiter import RedisLimiter
from api.telemetry import configure_logging
from api.tracing import OtlpTracing
from tests.support.api_bench import FakeKeyring, no_admin
from tests.support.scripted_engine import ScriptedEngine


def main() -> None:
    settings = Settings.from_env()
    configure_logging(settings.log_format)
    redis_url = os.environ["REDIS_URL"]

    def load_engine() -> ScriptedEngine:
        time.sleep(float(os.environ.get("LOAD_SECONDS", "0")))
        engine = ScriptedEngine()
        engine.seconds_per_char = float(os.environ.get("SECONDS_PER_CHAR", "0"))
        if "FAIL_AFTER" in os.environ:
            engine.fail_after = int(os.environ["FAIL_AFTER"])
        engine.alphabet = os.environ.get("ALPHABET", engine.alphabet)
        return engine

    ServiceApplication(
        settings,
        make_app=lambda: create_app(
            settings,
            keyring=FakeKeyring(),
            limiter=RedisLimiter(redis_url, timeout_seconds=settings.redis_timeout_seconds),
            load_engine=load_engine,
            admin=no_admin,
            tracing=(
                None if settings.otlp_endpoint is None else OtlpTracing(settings.otlp_endpoint)
            ),
            redis_url=redis_url,
        ),
        on_exit=lambda: None,
    ).run()


if __name__ == "__main__":
    main()
