"""`python -m tests.support.scripted_server`: the shipped gunicorn, worker, guards and limiter
around the scripted engine, for tests that need a generation of a known speed.

`SECONDS_PER_CHAR` is the engine's speed, `ALPHABET` what it writes, `LOAD_SECONDS` how long its
model takes to load, `FAIL_AFTER` how many characters it can write before it breaks. With
`REAL_KEYS` keys are checked and administered for real.
"""

from __future__ import annotations

import os
import time

from flask import Flask

from api.app import create_app
from api.config import Settings
from api.gunicorn_conf import ServiceApplication
from api.limits.limiter import RedisLimiter
from api.telemetry import configure_logging
from api.tracing import OtlpTracing
from auth.stores import open_stores
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

    def make_app() -> Flask:
        timeout = settings.redis_timeout_seconds
        stores = None
        if os.environ.get("REAL_KEYS"):
            stores = open_stores(settings.auth, redis_url, redis_timeout_seconds=timeout)
        return create_app(
            settings,
            keyring=FakeKeyring() if stores is None else stores.keyring,
            limiter=RedisLimiter(redis_url, timeout_seconds=timeout),
            load_engine=load_engine,
            admin=no_admin if stores is None else stores.admin,
            tracing=(
                None if settings.otlp_endpoint is None else OtlpTracing(settings.otlp_endpoint)
            ),
            redis_url=redis_url,
        )

    ServiceApplication(settings, make_app=make_app, on_exit=lambda: None).run()


if __name__ == "__main__":
    main()
