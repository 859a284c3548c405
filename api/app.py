"""The composition root: the parts of one process, put together once; nothing is global.

`create_app` takes the parts and makes the Flask app; `build` makes the real parts from settings.
Neither starts a thread nor opens a connection: `Lifecycle.start` does, in the worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog
from flask import Flask, Response
from flask_cors import CORS
from werkzeug.middleware.proxy_fix import ProxyFix

from api import guards
from api.access import check_policies
from api.config import Settings
from api.expiry import EXPIRES_HEADER
from api.front import Front
from api.gpt.request import FinishReason, GenerationMode
from api.idempotency import HEADER as IDEMPOTENCY_KEY
from api.idempotency import REPLAYED
from api.lifecycle import Engine, Lifecycle, ModelUnusableError
from api.limits.limiter import LimiterEvent, RedisLimiter
from api.parts import Keyring, Limiter, Service
from api.routes import admin as admin_routes
from api.routes import (
    admin_limits,
    admin_load,
    admin_users,
    completions,
    docs,
    generate,
    health,
    key,
    usage,
)
from api.telemetry import Metrics
from api.throttle import Throttle
from api.tracing import NoTracing, OtlpTracing, Tracing
from auth.admin import Admin
from auth.audit import Actor

BLUEPRINTS = (
    health.blueprint,
    docs.blueprint,
    generate.blueprint,
    completions.blueprint,
    key.blueprint,
    usage.blueprint,
    admin_routes.blueprint,
    admin_load.blueprint,
    admin_users.blueprint,
    admin_limits.blueprint,
)

EXPOSED_HEADERS = (
    *("X-Request-Id", "RateLimit", "RateLimit-Policy", "Retry-After", "retry-after-ms"),
    *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
    *("x-should-retry", "Deprecation", "Sunset", EXPIRES_HEADER, REPLAYED),
)

log = structlog.get_logger()


class _App(Flask):
    """Flask, told that no view and no hook is a coroutine: it looks at each on each request."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(
    settings: Settings,
    *,
    keyring: Keyring,
    limiter: Limiter,
    load_engine: Callable[[], Engine],
    admin: Callable[[Actor], Admin],
    redis_url: str,
    count_failure: Callable[[int, str, str], None] = lambda _hour, _reason, _network: None,
    metrics: Metrics | None = None,
    tracing: Tracing | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Flask:
    """Return the app. Its parts are `app.extensions["quillgate"]`."""
    app = _App("quillgate", static_folder=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = bool(settings.cors_origins)
    app.config["MAX_CONTENT_LENGTH"] = guards.MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined] # the default provider has it
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False  # a redirect would be an answer nobody documented
    metrics = metrics or Metrics()
    metrics.watch_keyring(keyring)
    lifecycle = Lifecycle(load_engine=load_engine, keyring=keyring)
    metrics.watch_model(lambda: lifecycle.model_check)
    metrics.begin_at_zero(LimiterEvent, FinishReason)
    app.extensions["quillgate"] = Service(
        settings=settings,
        keyring=keyring,
        limiter=limiter,
        lifecycle=lifecycle,
        throttle=Throttle(
            redis_url,
            redis_timeout_seconds=settings.redis_timeout_seconds,
            count_failure=count_failure,
            clock=clock,
        ),
        metrics=metrics,
        tracing=tracing or NoTracing(),
        admin=admin,
        clock=clock,
        monotonic=monotonic,
        started_at=int(clock()),
    )
    front = app.extensions["quillgate.front"] = Front(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    check_policies(app)
    front.answer_here(app)
    app.wsgi_app = front  # type: ignore[method-assign] # the documented way to wrap
    if settings.cors_origins:
        CORS(
            app,
            origins=list(settings.cors_origins),
            methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=[
                *("Content-Type", "X-API-Key", "Authorization", "X-Request-Id", IDEMPOTENCY_KEY)
            ],
            expose_headers=list(EXPOSED_HEADERS),
            supports_credentials=False,
            always_send=False,  # nothing to whom asks from no page
            vary_header=False,  # it would be left out with one origin, and where none was sent
            max_age=600,
        )
        app.after_request(_vary_by_origin)
    if settings.trusted_proxy_hops:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign] # as above
            app.wsgi_app, x_for=settings.trusted_proxy_hops, x_proto=0, x_host=0, x_prefix=0
        )
    return app


def _vary_by_origin(response: Response) -> Response:
    """Say to every cache that another origin may get another answer."""
    response.vary.add("Origin")
    return response


def build(settings: Settings, redis_url: str) -> Flask:
    """Return the app with its real parts."""
    from auth.stores import open_stores

    timeout = settings.redis_timeout_seconds
    stores = open_stores(settings.auth, redis_url, redis_timeout_seconds=timeout)
    metrics = Metrics()

    def load_engine() -> Engine:
        # torch: only now, and not in the thread that serves.
        from api.gpt import checkpoint, model_source
        from api.gpt.engine import Engine as GptEngine

        try:
            directory = model_source.directory_of(settings.model_uri, settings.auth.home)
            engine = GptEngine(
                checkpoint.load(directory),
                slots=settings.generation_slots,
                queue_limit=settings.queue_limit,
                threads=settings.generation_threads,
                mode=GenerationMode(settings.generation_mode),
            )
        except (checkpoint.CheckpointError, model_source.ModelSourceError, ValueError) as exc:
            raise ModelUnusableError(str(exc)) from exc
        engine.start()
        return engine

    return create_app(
        settings,
        keyring=stores.keyring,
        admin=stores.admin,
        limiter=RedisLimiter(
            redis_url,
            outage=settings.redis_outage,
            timeout_seconds=timeout,
            max_instances=settings.max_instances,
            on_event=lambda event, detail: _limiter_event(metrics, event, detail),
        ),
        count_failure=stores.count_failure,
        metrics=metrics,
        tracing=None if settings.otlp_endpoint is None else OtlpTracing(settings.otlp_endpoint),
        load_engine=load_engine,
        redis_url=redis_url,
    )


def _limiter_event(metrics: Metrics, event: LimiterEvent, detail: str) -> None:
    """Count what the limiter tells of Redis; its loss and return are lines in the log too."""
    metrics.limiter_events.labels(event=event.value).inc()
    if event is LimiterEvent.REDIS_LOST:
        log.warning("limiter.redis", change=event.value, detail=detail)
    elif event is LimiterEvent.REDIS_BACK:
        log.info("limiter.redis", change=event.value)
