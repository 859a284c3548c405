"""Google credentials of a program on Fly.io, without any key: who it is, proved by its platform.

A socket inside each Fly machine gives out a short-lived OpenID Connect token that names the app.
Google's Security Token Service takes it in exchange for a federated token, and IAM gives a service
account's rights for that (Workload Identity Federation). google-auth does both exchanges and renews
what they gave; this module fetches Fly's token and keeps it until shortly before it ends.

No socket, a refusal or an answer that cannot be read is a RefreshError in one line that never holds
a token; it reaches the caller of the secret store as a store that is unavailable, and why.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.auth import identity_pool
from google.auth.credentials import Credentials
from google.auth.exceptions import RefreshError

from auth.config import Workload

SOCKET = Path("/.fly/api")
SOCKET_SECONDS = 3.0
EARLY_SECONDS = 120.0  # a token is asked for anew this long before the old one ends

_TOKENS = "https://sts.googleapis.com/v1/token"
_IAM = "https://iamcredentials.googleapis.com"
_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


def credentials(
    workload: Workload,
    *,
    socket_path: Path = SOCKET,
    token_url: str = _TOKENS,
    iam_url: str = _IAM,
    clock: Callable[[], float] = time.time,
) -> Credentials:
    """Return credentials that fetch and renew themselves. Nothing is asked yet."""
    audience = f"//iam.googleapis.com/{workload.provider}"
    impersonation_url = None
    if workload.service_account is not None:
        account = f"projects/-/serviceAccounts/{workload.service_account}"
        impersonation_url = f"{iam_url}/v1/{account}:generateAccessToken"
    made: Credentials = identity_pool.Credentials(  # type: ignore[no-untyped-call] # theirs
        audience=audience,
        subject_token_type="urn:ietf:params:oauth:token-type:jwt",  # noqa: S106 - a name, no token
        token_url=token_url,
        service_account_impersonation_url=impersonation_url,
        subject_token_supplier=FlyTokens(f"https:{audience}", socket_path=socket_path, clock=clock),
        scopes=_SCOPES,
    )
    return made


class FlyTokens(identity_pool.SubjectTokenSupplier):
    """Fly's tokens for one audience. Safe to call from many threads."""

    def __init__(self, audience: str, *, socket_path: Path, clock: Callable[[], float]) -> None:
        self._audience, self._socket_path, self._clock = audience, socket_path, clock
        self._lock = threading.Lock()
        self._token, self._ends_at = "", 0.0

    def get_subject_token(self, context: Any, request: Any) -> str:
        """Return a token that is good for a while yet. Raise RefreshError."""
        del context, request  # the audience is known, and a unix socket needs no transport
        with self._lock:
            if self._clock() > self._ends_at - EARLY_SECONDS:
                token = self._fetch()
                self._ends_at = _ends_at(token)
                self._token = token
            return self._token

    def _fetch(self) -> str:
        connection = _SocketConnection(self._socket_path)
        try:
            connection.request("POST", "/v1/tokens/oidc", json.dumps({"aud": self._audience}))
            answer = connection.getresponse()
            said = answer.read(64 * 1024).decode("ascii", "replace").strip()
        except (OSError, http.client.HTTPException) as exc:
            raise _refused(f"{self._socket_path}: {exc or type(exc).__name__}") from exc
        finally:
            connection.close()
        if answer.status != 200:
            raise _refused(f"{self._socket_path} answered {answer.status}")
        return said


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SOCKET_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SOCKET_SECONDS)
        self.sock.connect(str(self._path))


def _ends_at(token: str) -> float:
    """Return when a token ends, read from it unchecked: Google checks it, we only renew it."""
    try:
        _header, claims, _signature = token.split(".")
        padded = claims + "=" * (-len(claims) % 4)
        return float(json.loads(base64.urlsafe_b64decode(padded))["exp"])
    except (ValueError, KeyError, TypeError, binascii.Error) as exc:
        raise _refused("its socket gave no token") from exc


def _refused(why: str) -> RefreshError:
    return RefreshError(f"Fly.io's oidc token cannot be had: {why}")  # type: ignore[no-untyped-call] # theirs
