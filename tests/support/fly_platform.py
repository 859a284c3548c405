"""What a Fly machine and Google's side of Workload Identity Federation answer, on loopback.

The socket signs tokens with a key of its own, as Fly does; the token service and IAM check what
Google's documentation says they check, and remember what they gave out.
"""

from __future__ import annotations

import json
import secrets
import socketserver
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

ORGANISATION = "acme"
APP = "quillgate-web"
PROVIDER = "projects/424242/locations/global/workloadIdentityPools/fly/providers/fly-oidc"
ACCOUNT = "quillgate-web@test-project.iam.gserviceaccount.com"


class FlyPlatform:
    """The socket, the token service and IAM; each can be told to misbehave."""

    def __init__(self, folder: Path) -> None:
        self.socket_path = folder / "api"
        self.app = APP
        self.issuer = f"https://oidc.fly.io/{ORGANISATION}"
        self.lifetime_seconds = 600
        self.socket_status = 200
        self.socket_body: str | None = None
        self.asked = 0  # tokens asked of the socket
        self.exchanged = 0
        self.access_tokens: set[str] = set()
        self._federated: set[str] = set()
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @contextmanager
    def running(self) -> Iterator[FlyPlatform]:
        with ExitStack() as exits:
            unix = _UnixServer(str(self.socket_path), _handler(self._token))
            web = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._google))
            for server in (unix, web):
                exits.callback(server.server_close)
                exits.callback(server.shutdown)
                threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            self.google_url = f"http://127.0.0.1:{web.server_address[1]}"
            yield self

    def _token(self, path: str, _headers: Any, body: bytes) -> tuple[int, str]:
        """Answer as the machine's socket does."""
        self.asked += 1
        if self.socket_status != 200 or self.socket_body is not None:
            return self.socket_status, self.socket_body or ""
        assert path == "/v1/tokens/oidc"
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": json.loads(body)["aud"],
            "sub": f"{ORGANISATION}:{self.app}:some-machine",
            "app_name": self.app,
            "iat": now,
            "nbf": now,
            "exp": now + self.lifetime_seconds,
        }
        return 200, jwt.encode(claims, self._key, algorithm="RS256")

    def _google(self, path: str, headers: Any, body: bytes) -> tuple[int, str]:
        if path == "/v1/token":
            return self._exchange(dict(urllib.parse.parse_qsl(body.decode())))
        if path == f"/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken":
            return self._impersonate(headers["Authorization"].removeprefix("Bearer "))
        return 404, "{}"

    def _exchange(self, form: dict[str, str]) -> tuple[int, str]:
        """The token service: signature, issuer, audience, time and the attribute condition."""
        self.exchanged += 1
        wanted = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "audience": f"//iam.googleapis.com/{PROVIDER}",
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        }
        if any(form.get(name) != value for name, value in wanted.items()):
            return 400, json.dumps({"error": "invalid_request"})
        try:
            claims = jwt.decode(
                form["subject_token"],
                self._key.public_key(),
                algorithms=["RS256"],
                issuer=f"https://oidc.fly.io/{ORGANISATION}",
                audience=f"https://iam.googleapis.com/{PROVIDER}",
            )
        except jwt.InvalidTokenError as exc:
            return 400, json.dumps({"error": "invalid_grant", "error_description": str(exc)})
        if claims["app_name"] != APP:
            return 401, json.dumps({"error": "unauthorized_client"})
        token = f"federated-{secrets.token_hex(8)}"
        self._federated.add(token)
        answer = {
            "access_token": token,
            "issued_token_type": wanted["requested_token_type"],
            "token_type": "Bearer",
            "expires_in": 3600,
        }
        return 200, json.dumps(answer)

    def _impersonate(self, token: str) -> tuple[int, str]:
        if token not in self._federated:
            return 403, json.dumps({"error": {"status": "PERMISSION_DENIED"}})
        given = f"access-{secrets.token_hex(8)}"
        self.access_tokens.add(given)
        ends = datetime.fromtimestamp(time.time() + 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return 200, json.dumps({"accessToken": given, "expireTime": ends})


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def _handler(answer: Callable[[str, Any, bytes], tuple[int, str]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, text = answer(self.path, self.headers, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Stay silent."""

        def address_string(self) -> str:
            return "a caller"  # a unix socket has no address

    return Handler
