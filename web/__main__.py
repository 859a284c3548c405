"""`python -m web`: serve the web app. A bad setting or unreadable users stop it with one line."""

from __future__ import annotations

import signal
import socket
import sys

from web.config import SettingsError, WebSettings


def main() -> int:
    try:
        settings = WebSettings.from_env()
    except SettingsError as exc:
        print(f"web: {exc}", file=sys.stderr)
        return 1
    if settings.on_fly:
        from auth.secrets.fly_identity import SOCKET
        from web.fly_machine import step_down

        try:
            step_down(SOCKET)
        except OSError as exc:
            print(f"web: the user cannot be changed: {exc}", file=sys.stderr)
            return 1

    import uvicorn
    from streamlit.web.bootstrap import load_config_options

    from web import logs, services
    from web.streamlit_options import OPTIONS

    load_config_options(
        dict(OPTIONS) | {"server.address": settings.host, "server.port": settings.port}
    )
    logs.configure(settings.log_format)

    from web.asgi import create_app, tab_is_open
    from web.user_source import open_users

    try:
        parts = services.build(settings, open_users(settings), tab_is_open=tab_is_open)
    except Exception as exc:  # noqa: BLE001  # without users nobody could log in: say so and stop
        print(f"web: users cannot be read: {exc}", file=sys.stderr)
        return 1
    services.install(parts)
    try:
        listening = _listen(settings.host, settings.port)
    except OSError as exc:
        print(f"web: PORT {settings.port} cannot be listened on: {exc.strerror}", file=sys.stderr)
        return 1
    print(f"web app on http://{settings.host}:{settings.port}", flush=True)
    served = uvicorn.Config(
        create_app(parts),
        server_header=False,
        access_log=False,
        proxy_headers=False,  # addresses and schemes are read where they are trusted
        log_config=None,
        ws="websockets-sansio",
        ws_max_size=1 << 20,
        timeout_graceful_shutdown=3,
    )
    # When uvicorn is done it sends the signal that ended it again, to these.
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: sys.exit(0))
    with listening:
        uvicorn.Server(served).run(sockets=[listening])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=256)


if __name__ == "__main__":
    sys.exit(main())
