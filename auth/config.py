"""Settings of keys, secrets and Redis from the environment; a bad one stops the start.

The small readers below are for `api.config` and `web.config` too: each names the variable, says
what it must be and repeats the value unless it may hold a credential.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from auth.api_key import LABELS
from auth.plans import PLANS_FILE

REDIS_SCHEMES = ("redis", "rediss", "unix")
SHARDS = 16  # of a keyring that is set up without KEYRING_SHARDS
MAX_SHARDS = 1024

_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_PROJECT = re.compile(r"[a-z][a-z0-9:.-]{2,62}")
_PROVIDER = re.compile(
    r"projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+"
)
_ACCOUNT = re.compile(r"[a-z][a-z0-9-]+@[a-z0-9.:-]+\.iam\.gserviceaccount\.com")
_HOST_PORT = re.compile(r"[^\s/:]+:[0-9]{1,5}")


class SettingsError(ValueError):
    """A setting cannot be used; `str()` is the one line that the operator reads."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Who this program is to Google when its platform vouches for it: see fly_identity.py."""

    provider: str  # projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER
    service_account: str | None  # whose rights it takes on; None: rights of its own


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Where keys, users and their propagation live."""

    home: Path
    gcp_project: str | None  # None: secrets are files under `home`
    prefix: str
    emulator_host: str | None
    redis_url: str | None  # None: the embedded Redis of `home`
    key_label: str
    # Used when the keyring is first set up; afterwards the store says it, and another number here
    # stops the start. None: whatever the store says.
    keyring_shards: int | None
    plans_file: Path = PLANS_FILE
    workload: Workload | None = None  # None: Application Default Credentials

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, *, needs_redis: bool = True
    ) -> Self:
        """Read the settings. Raise SettingsError.

        Without `needs_redis`, `SECRETS=gcp:` does not require REDIS_URL (the web app).
        """
        env = os.environ if environ is None else environ
        gcp_project = _gcp_project(env)
        redis_url = redis_url_setting(env)
        if gcp_project and needs_redis and not redis_url:
            raise SettingsError("REDIS_URL is required with SECRETS=gcp:...")
        return cls(
            home=Path(env.get("QUILLGATE_HOME") or ".quillgate"),
            gcp_project=gcp_project,
            prefix=_matching(env, "SECRETS_PREFIX", "quillgate", _PREFIX, "a name like quillgate"),
            emulator_host=_emulator_host(env),
            redis_url=redis_url,
            key_label=choice(env, "KEY_LABEL", "live", LABELS),
            keyring_shards=integer(env, "KEYRING_SHARDS", SHARDS, least=1, most=MAX_SHARDS)
            if env.get("KEYRING_SHARDS")
            else None,
            plans_file=Path(env.get("PLANS_FILE") or PLANS_FILE),
            workload=_workload(env),
        )


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """Which API the command line works through, and with whose key."""

    url: str
    key: str = field(repr=False)

    @classmethod
    def from_env(cls, url: str | None, environ: Mapping[str, str] | None = None) -> Self | None:
        """Read the settings; None: no API was named. Raise SettingsError."""
        env = os.environ if environ is None else environ
        url = url or env.get("QUILLGATE_API_URL")
        if not url:
            return None
        key = env.get("QUILLGATE_ADMIN_KEY")
        if not key:
            raise SettingsError(
                "QUILLGATE_ADMIN_KEY must hold an admin's key to work through --api"
            )
        return cls(url, key)


def integer(env: Mapping[str, str], name: str, default: int, *, least: int, most: int) -> int:
    """Return an integer setting, `default` when it is unset or empty."""
    text = env.get(name) or ""
    if not text:
        return default
    if not re.fullmatch(r"-?[0-9]{1,18}", text) or not least <= int(text) <= most:
        raise SettingsError(f"{name} must be an integer from {least} to {most}, not {text!r}")
    return int(text)


def choice(env: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    """Return a setting that is one of a few words."""
    text = env.get(name) or default
    if text not in allowed:
        raise SettingsError(f"{name} must be one of {', '.join(allowed)}, not {text!r}")
    return text


def log_format(env: Mapping[str, str] | None = None, *, terminal: bool) -> str:
    """Return how log lines are written: for a person at a terminal, else as JSON."""
    chosen = os.environ if env is None else env
    return choice(chosen, "LOG_FORMAT", "console" if terminal else "json", ("json", "console"))


def redis_url_setting(env: Mapping[str, str]) -> str | None:
    """Return REDIS_URL if it is set. Its value is never repeated: it may hold a password."""
    text = env.get("REDIS_URL") or ""
    if not text:
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        raise SettingsError("REDIS_URL cannot be read as a URL") from exc
    if parts.scheme not in REDIS_SCHEMES:
        raise SettingsError("REDIS_URL must begin with redis://, rediss:// or unix://")
    if parts.scheme == "unix" and not parts.path:
        raise SettingsError("REDIS_URL must name a socket: unix:///path/to/redis.sock")
    if parts.scheme != "unix" and not parts.hostname:
        raise SettingsError(f"REDIS_URL must name a host: {parts.scheme}://host:6379")
    if port == 0:
        raise SettingsError("REDIS_URL must name a port from 1 to 65535")
    return text


def _gcp_project(env: Mapping[str, str]) -> str | None:
    text = env.get("SECRETS") or "file"
    if text == "file":
        return None
    kind, _, project = text.partition(":")
    if kind != "gcp" or not _PROJECT.fullmatch(project):
        raise SettingsError(f"SECRETS must be file or gcp:<project id>, not {text!r}")
    return project


def _emulator_host(env: Mapping[str, str]) -> str | None:
    name = "SECRET_MANAGER_EMULATOR_HOST"
    return _matching(env, name, "", _HOST_PORT, "host:port") if env.get(name) else None


def _workload(env: Mapping[str, str]) -> Workload | None:
    names = ("WORKLOAD_PROVIDER", "WORKLOAD_SERVICE_ACCOUNT")
    provider, account = (env.get(name) or "" for name in names)
    if not provider and not account:
        return None
    provider = _matching(env, names[0], "", _PROVIDER, "projects/.../providers/NAME")
    if account:
        account = _matching(env, names[1], "", _ACCOUNT, "NAME@PROJECT.iam.gserviceaccount.com")
    return Workload(provider, account or None)


def _matching(
    env: Mapping[str, str], name: str, default: str, pattern: re.Pattern[str], meaning: str
) -> str:
    text = env.get(name) or default
    if not pattern.fullmatch(text):
        raise SettingsError(f"{name} must be {meaning}, not {text!r}")
    return text
