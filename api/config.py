"""The settings of the API: read from the environment once, validated whole, then frozen.

A value that is wrong raises `SettingsError` with one line that names the variable and what it may
be; the process does not start. An unset variable has the default of contract section 2.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from api.gpt.request import GenerationMode
from auth.config import AuthSettings, SettingsError, choice, integer

GENERATION_MODES = tuple(mode.value for mode in GenerationMode)
# Threads that never wait for the generator: health, refusals, accounts, admin.
SPARE_THREADS = 16

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._/-]*)?")
_MODEL_URI = re.compile(r"gs://[a-z0-9][a-z0-9._-]+/.+|(?!.*://).+")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an API process is told from outside."""

    auth: AuthSettings
    host: str
    port: int
    redis_outage: str  # "local", "closed" or "open"
    redis_timeout_seconds: float  # what takes longer counts as an outage
    max_instances: int  # that share the limits while Redis has not told how many do
    model_uri: str
    cors_origins: tuple[str, ...]
    trusted_proxy_hops: int
    generation_slots: int
    queue_limit: int
    generation_mode: str
    generation_threads: int
    metrics_port: int | None
    log_format: str  # "json" or "console"
    otlp_endpoint: str | None = None  # http(s)://host:port of an OpenTelemetry collector

    @property
    def threads(self) -> int:
        """Every admitted request holds a thread; the spare ones answer everybody else."""
        return self.generation_slots + self.queue_limit + SPARE_THREADS

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, *, cpus: int | None = None
    ) -> Settings:
        """Read the environment. Raise SettingsError for the first value that is wrong."""
        env = os.environ if environ is None else environ
        if env.get("NUMBA_DISABLE_JIT", "0").strip() not in {"", "0"}:
            raise SettingsError(
                "NUMBA_DISABLE_JIT is set, and nothing can be generated without compiled code: "
                "unset it"
            )
        cpus = cpus or os.cpu_count() or 1
        slots = integer(env, "GENERATION_SLOTS", default=min(64, 16 * cpus), least=1, most=1024)
        timeout_ms = integer(env, "REDIS_TIMEOUT_MS", default=50, least=1, most=10_000)
        metrics = integer(env, "METRICS_PORT", default=0, least=0, most=65535)
        settings = cls(
            auth=AuthSettings.from_env(env),
            host=env.get("HOST") or "127.0.0.1",
            port=integer(env, "PORT", default=8080, least=1, most=65535),
            redis_outage=choice(env, "REDIS_OUTAGE", "local", ("local", "closed", "open")),
            redis_timeout_seconds=timeout_ms / 1000,
            max_instances=integer(env, "MAX_INSTANCES", default=1, least=1, most=1000),
            model_uri=_model_uri(env.get("MODEL_URI") or "models/demo"),
            cors_origins=_origins(env.get("CORS_ORIGINS", "")),
            trusted_proxy_hops=integer(env, "TRUSTED_PROXY_HOPS", default=0, least=0, most=10),
            generation_slots=slots,
            queue_limit=integer(env, "QUEUE_LIMIT", default=2 * slots, least=1, most=10_000),
            generation_mode=choice(env, "GENERATION_MODE", "auto", GENERATION_MODES),
            generation_threads=max(1, cpus - 1),  # one is left for everybody else
            metrics_port=metrics or None,
            log_format=choice(
                env, "LOG_FORMAT", "console" if sys.stdout.isatty() else "json", ("json", "console")
            ),
            otlp_endpoint=_endpoint(env.get("OTEL_EXPORTER_OTLP_ENDPOINT") or ""),
        )
        if settings.metrics_port == settings.port:
            raise SettingsError("METRICS_PORT must differ from PORT: metrics are never public")
        return settings


def _endpoint(text: str) -> str | None:
    if text and not _ENDPOINT.fullmatch(text):
        raise SettingsError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT must be http(s)://host[:port][/path], not {text!r}"
        )
    return text.rstrip("/") or None


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise SettingsError(
                f"CORS_ORIGINS must be exact origins like https://app.example.com, not {origin!r}"
            )
    return origins


def _model_uri(text: str) -> str:
    if not _MODEL_URI.fullmatch(text):
        raise SettingsError(f"MODEL_URI must be a directory or gs://bucket/prefix, not {text!r}")
    if not text.startswith("gs://") and not Path(text).is_dir():
        raise SettingsError(f"MODEL_URI: there is no directory {text!r}")
    return text
