"""`python -m api`: check the settings, see that there is a Redis, and serve until SIGTERM.

A setting that is wrong or cannot work here, or no Redis to be had, is one line on stderr and exit
status 1.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from api.app import build
from api.config import Settings
from api.gunicorn_conf import ServiceApplication
from api.telemetry import configure_logging
from auth.embedded_redis import EmbeddedRedisError, ensure
from auth.plans import load_plans

TRIAL_SECONDS = 120.0  # torch and a GPU's context, from a cold disk


def main() -> int:
    try:
        settings = Settings.from_env()
        load_plans(settings.auth.plans_file)  # now, so that a wrong one is one line
        _try_gpu(settings)
        redis_url, let_go = _redis(settings)
    except (ValueError, EmbeddedRedisError, OSError, subprocess.SubprocessError) as exc:
        print(f"quillgate api: {exc}", file=sys.stderr)
        return 1
    configure_logging(settings.log_format)
    ServiceApplication(settings, make_app=lambda: build(settings, redis_url), on_exit=let_go).run()
    return 0


def _try_gpu(settings: Settings) -> None:
    """Raise ValueError where GENERATION_MODE asks for a GPU that cannot be used."""
    if settings.generation_mode != "cuda":
        return
    trial = [sys.executable, "-m", "api.gpt.gpu_trial"]
    done = subprocess.run(  # noqa: S603 - ourselves
        trial, capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"the GPU's trial ended with {done.returncode}"]
        raise ValueError(said[-1])


def _redis(settings: Settings) -> tuple[str, Callable[[], None]]:
    """Return the Redis to use, and how to let go of it. Raise EmbeddedRedisError or OSError."""
    if settings.auth.redis_url is not None:
        return settings.auth.redis_url, lambda: None
    embedded = ensure(settings.auth.home)
    return embedded.url, embedded.close


if __name__ == "__main__":
    sys.exit(main())
