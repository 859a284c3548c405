"""A project in Google's cloud as its identities see it: one store, and a door to it for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from auth.names import Names
from auth.rights import Identity
from auth.users import generate_password
from tests.support.identities import PROJECT, Policy
from tests.support.secret_manager import SecretManagerServer
from tests.support.web_server import WebServer


class Project:
    """The secrets of a project, and a door to them for each identity: here nobody shows a token."""

    def __init__(self, redis_url: str) -> None:
        self.policy, self.redis_url = Policy(Names("quillgate")), redis_url
        self.doors = {identity: SecretManagerServer() for identity in Identity}
        first = self.doors[Identity.OPERATOR]
        for identity, door in self.doors.items():
            door.vault, door.service = first.vault, first.service
            door.authorize = self._allowed(identity)
            door.start()

    def _allowed(self, identity: Identity):
        return lambda call: self.policy(replace(call, identity=identity))

    def environ(self, identity: Identity) -> dict[str, str]:
        return {
            "SECRETS": f"gcp:{PROJECT}",
            "SECRET_MANAGER_EMULATOR_HOST": self.doors[identity].host,
            "REDIS_URL": self.redis_url,
            "KEYRING_SHARDS": "2",
        }

    def stop(self) -> None:
        for door in self.doors.values():
            door.stop()


@pytest.fixture
def web_over(tiny_model, tmp_path, api_server) -> Iterator[Callable[[Project], WebServer]]:
    """Yield a function that starts the API and the web app on a project, each as its identity."""
    started: list[WebServer] = []

    def start(project: Project) -> WebServer:
        api = api_server(MODEL_URI=str(tiny_model), **project.environ(Identity.API))
        extra = project.environ(Identity.WEB) | {"WEB_SESSION_KEY": generate_password() * 3}
        started.append(WebServer(tmp_path, api.url, extra))
        started[-1].start()
        return started[-1]

    yield start
    for server in started:
        server.stop()
