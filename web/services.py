"""What one web process is made of, built once by `python -m web` and found by every script run.

Streamlit runs the pages as scripts in this process, without arguments; `installed()` is how they
reach the parts. Nothing is built at import.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from web.account_view import AccountViews
from web.accounts import Accounts, UserSource
from web.api_client import ApiClient
from web.config import WebSettings
from web.key_rotation import KeyRotation
from web.known_browsers import KnownBrowsers
from web.login import LoginDesk
from web.new_secrets import NewSecrets
from web.once import Once
from web.run import Run, RunView
from web.runs import Runs
from web.sessions import Sessions
from web.texts import text_of
from web.throttle import LoginThrottle
from web.user_api import UserApi
from web.visits import Visits


@dataclass(frozen=True)
class Services:
    """The parts that pages use."""

    settings: WebSettings
    accounts: Accounts
    sessions: Sessions
    known_browsers: KnownBrowsers
    desk: LoginDesk
    api: ApiClient
    user_api: UserApi
    key_rotation: KeyRotation
    account_views: AccountViews
    runs: Runs
    visits: Visits
    once: Once
    new_secrets: NewSecrets


def build(
    settings: WebSettings,
    users: UserSource,
    *,
    tab_is_open: Callable[[str], bool],
    api: ApiClient | None = None,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
) -> Services:
    """Return the parts of a web process. Raises what `users.load()` raises."""
    accounts = Accounts(users, clock)
    sessions = Sessions(settings.session_key, ended_file=settings.ended_file, clock=wall_clock)
    api = api or ApiClient(settings.api_url)
    user_api = UserApi(api, accounts)
    account_views = AccountViews(user_api, clock)
    visits = Visits(settings.visits_folder, has_ended=sessions.has_ended, clock=wall_clock)

    def keep_text(run: Run, view: RunView) -> None:
        """Keep what came, whether or not a page still looks; something was used, too."""
        account_views.forget(run.username)
        if view.text:
            at = time.strftime("%H:%M UTC", time.gmtime(wall_clock()))
            visits.add_text(run.login_id, text_of(run.run_id, view, at))

    runs = Runs(api, accounts, tab_is_open=tab_is_open, at_end=keep_text, clock=clock)
    new_secrets = NewSecrets(tab_is_open, clock)
    sessions.when_ended += [runs.stop_login, visits.end, new_secrets.end]
    return Services(
        settings=settings,
        accounts=accounts,
        sessions=sessions,
        known_browsers=KnownBrowsers(settings.session_key, clock=wall_clock),
        desk=LoginDesk(accounts, sessions, LoginThrottle(clock)),
        api=api,
        user_api=user_api,
        key_rotation=KeyRotation(user_api, accounts),
        account_views=account_views,
        runs=runs,
        visits=visits,
        once=Once(),
        new_secrets=new_secrets,
    )


class Housekeeping:
    """The two threads that keep users fresh and end abandoned runs."""

    def __init__(self, services: Services) -> None:
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=target, args=(self._stop,), name=name, daemon=True)
            for name, target in (
                ("users", services.accounts.keep_fresh),
                ("runs", services.runs.keep_swept),
            )
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=2)


_installed: list[Services] = []


def install(services: Services) -> None:
    """Make `services` the ones that script runs find."""
    _installed[:] = [services]


def installed() -> Services:
    """Return this process's parts."""
    if not _installed:
        raise RuntimeError("start the web app with: python -m web")
    return _installed[0]
