"""One server for every contender that is a Flask app: the shipped gunicorn, worker and settings.

`/bare` is a Flask route that returns JSON, in an app of its own; `/flask-limiter` is the same route
metered by flask-limiter in three windows with headers; `/guarded` returns the same from behind the
guards of `POST /generate`; `/generate` is the shipped route on an engine that answers at once.
`QUILLGATE_HOME` and `REDIS_URL` name the state; the key's id and limits are set up by gateway.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, jsonify, request
from flask_limiter import Limiter

from api import app as application
from api.access import requires
from api.admission import admit
from api.call import Call, current_call
from api.config import Settings
from api.gpt.request import FinishReason, GenerationRequest
from api.gunicorn_conf import ServiceApplication
from api.limits.limiter import RedisLimiter
from api.schemas import GenerateRequest
from api.telemetry import Metrics, configure_logging
from auth.principal import Scope
from auth.stores import open_stores

ANSWER = {"id": "gen_0", "model": "constant", "text": "x" * 100, "seed": 7}
WINDOWS = "600000000/minute;6000000000/hour;60000000000/day"

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


@dataclass
class Constant:
    """A generation that had ended before it began."""

    text: str
    generated_chars: int
    finish_reason: FinishReason = FinishReason.LENGTH
    queued_ms: int = 0
    first_char_ms: int = 0
    total_ms: int = 0
    error: None = None
    ended: bool = True

    def read(self, _timeout_seconds: float) -> None:
        return None

    def result(self, _timeout_seconds: float | None = None) -> Constant:
        return self

    def abort(self) -> None:
        """It has ended."""


class ConstantEngine:
    """Answers at once, with as many characters as were asked for."""

    healthy, model_name, mode, start_text = True, "constant", "constant", "\n"

    def submit(self, wanted: GenerationRequest) -> Constant:
        return Constant("x" * wanted.num_chars, wanted.num_chars)

    def drain(self, _timeout_seconds: float) -> bool:
        return True

    def close(self) -> None:
        """It holds nothing."""


def bare() -> Flask:
    app = Flask("bare")

    @app.post("/bare")
    def constant() -> Response:
        return jsonify(ANSWER)

    return app


def metered(redis_url: str) -> Flask:
    app = Flask("metered")
    storage = redis_url.replace("unix://", "redis+unix://", 1)
    limiter = Limiter(
        lambda: request.headers["X-API-Key"], app=app, storage_uri=storage, headers_enabled=True
    )

    @app.post("/flask-limiter")
    @limiter.limit(WINDOWS)
    def constant() -> Response:
        return jsonify(ANSWER)

    return app


def quillgate(settings: Settings, redis_url: str) -> Flask:
    """Return the shipped app on real parts, less the model, with one route more."""
    timeout = settings.redis_timeout_seconds
    stores = open_stores(settings.auth, redis_url, redis_timeout_seconds=timeout)
    metrics = Metrics()

    def constant(call: Call) -> dict[str, Any]:
        admit(call, 100)
        return ANSWER

    @requires(Scope.GENERATE, body=GenerateRequest, whole=constant)
    def guarded() -> Response:
        return jsonify(constant(current_call()))

    app = application.create_app(
        settings,
        keyring=stores.keyring,
        admin=stores.admin,
        limiter=RedisLimiter(redis_url, timeout_seconds=timeout),
        metrics=metrics,
        load_engine=ConstantEngine,
        redis_url=redis_url,
    )
    app.add_url_rule("/guarded", view_func=guarded, methods=["POST"])
    app.extensions["quillgate.front"].answer_here(app)
    return app


def main() -> None:
    settings = Settings.from_env()
    configure_logging(settings.log_format)
    redis_url = settings.auth.redis_url
    if redis_url is None:
        raise SystemExit("REDIS_URL is needed")

    def make_app() -> Flask:
        app = quillgate(settings, redis_url)
        others: dict[str, Wsgi] = {"/bare": bare(), "/flask-limiter": metered(redis_url)}
        ours = app.wsgi_app

        def choose(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            return others.get(environ["PATH_INFO"], ours)(environ, start_response)

        app.wsgi_app = choose  # type: ignore[method-assign] # the documented way to wrap
        return app

    ServiceApplication(settings, make_app, lambda: None).run()


if __name__ == "__main__":
    main()
