"""Settings of the web app from the environment; a bad one stops the start with one line.

Beside contract section 2, for running behind a proxy: HOST (default 127.0.0.1; a container sets
0.0.0.0), CLIENT_ADDRESS_HEADER (a header that the proxy always sets, such as Fly-Client-IP),
ALLOWED_HOSTS (a comma list of host[:port] by which browsers may ask for the app; empty: any).
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from auth.config import AuthSettings, SettingsError, choice, integer
from auth.private_home import private_home

MIN_SESSION_KEY_CHARS = 32
MAX_PROXY_HOPS = 10  # as the API
_HOST_AND_PORT = re.compile(r"([a-z0-9.-]{1,253}|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")

__all__ = ["SettingsError", "WebSettings"]


@dataclass(frozen=True, slots=True)
class WebSettings:
    """What `python -m web` runs with."""

    auth: AuthSettings
    host: str
    port: int
    api_url: str
    session_key: str = field(repr=False)
    ended_file: Path | None  # where logouts are written down
    visits_folder: Path | None  # where texts and fields of those who are logged in are
    client_address_header: str | None
    proxy_hops: int
    allowed_hosts: frozenset[str]  # empty: any
    log_format: str
    on_fly: bool = False  # where the process begins as root

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the settings. Raise SettingsError."""
        env = os.environ if environ is None else environ
        auth = AuthSettings.from_env(env, needs_redis=False)
        return cls(
            auth=auth,
            host=_host(env),
            port=integer(env, "PORT", 8501, least=1, most=65535),
            api_url=_api_url(env),
            proxy_hops=integer(env, "TRUSTED_PROXY_HOPS", 0, least=0, most=MAX_PROXY_HOPS),
            client_address_header=_header_name(env),
            allowed_hosts=_hosts(env),
            log_format=choice(
                env,
                "LOG_FORMAT",
                "console" if sys.stderr.isatty() else "json",
                ("json", "console"),
            ),
            session_key=_session_key(env, auth),
            ended_file=None if auth.gcp_project else auth.home / "web-ended-sessions.json",
            visits_folder=None if auth.gcp_project else auth.home / "web-visits",
            on_fly=auth.workload is not None or "FLY_MACHINE_ID" in env,
        )


def _host(env: Mapping[str, str]) -> str:
    text = env.get("HOST") or "127.0.0.1"
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as exc:
        raise SettingsError(f"HOST must be an IP address to listen on, not {text!r}") from exc


def _api_url(env: Mapping[str, str]) -> str:
    text = env.get("GPT_API_URL") or "http://127.0.0.1:8080"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        raise SettingsError(f"GPT_API_URL cannot be read as a URL: {text!r}") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise SettingsError(f"GPT_API_URL must be http(s)://host[:port], not {text!r}")
    if parts.username is not None or parts.password is not None:
        raise SettingsError("GPT_API_URL must not hold a user name or password")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise SettingsError(f"GPT_API_URL must end after the host and port, not {text!r}")
    return text.rstrip("/")


def _header_name(env: Mapping[str, str]) -> str | None:
    text = env.get("CLIENT_ADDRESS_HEADER") or ""
    if text and not _HEADER_NAME.fullmatch(text):
        raise SettingsError(f"CLIENT_ADDRESS_HEADER must be a header's name, not {text!r}")
    return text or None


def _hosts(env: Mapping[str, str]) -> frozenset[str]:
    given = [one.strip().lower() for one in (env.get("ALLOWED_HOSTS") or "").split(",")]
    hosts = frozenset(one for one in given if one)
    for host in sorted(hosts):
        if not _HOST_AND_PORT.fullmatch(host):
            raise SettingsError(
                f"ALLOWED_HOSTS must be a comma list of host or host:port, and {host!r} is neither"
            )
    return hosts


def _session_key(env: Mapping[str, str], auth: AuthSettings) -> str:
    """Return the key that signs sessions; the value is never repeated in an error."""
    text = env.get("WEB_SESSION_KEY") or ""
    if text:
        if len(text) < MIN_SESSION_KEY_CHARS:
            raise SettingsError(
                f"WEB_SESSION_KEY must have at least {MIN_SESSION_KEY_CHARS} characters"
            )
        return text
    if auth.gcp_project:
        raise SettingsError("WEB_SESSION_KEY is required with SECRETS=gcp:...")
    try:
        return _kept_session_key(auth.home / "web-session-key")
    except OSError as exc:
        raise SettingsError(f"QUILLGATE_HOME cannot hold the session key: {exc}") from exc


def _kept_session_key(path: Path) -> str:
    """Return the key in `path`, made on the first start; of two first starters one wins."""
    private_home(path.parent)
    if not path.exists():
        own = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        own.touch(mode=0o600)
        own.write_text(secrets.token_urlsafe(48), encoding="utf-8")
        try:
            path.hardlink_to(own)
        except FileExistsError:
            pass
        finally:
            own.unlink()
    text = path.read_text(encoding="utf-8").strip()
    if len(text) < MIN_SESSION_KEY_CHARS:
        raise SettingsError(f"{path} does not hold a session key; delete it to get a new one")
    return text
