"""docs/deploy.md followed: its rights, its first commands, and mary's first login to its end."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from auth.__main__ import main
from auth.names import Names
from auth.rights import Binding, Identity, bindings
from tests.support.cloud_project import Project
from tests.support.documents import blocks
from tests.support.identities import Policy

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy.md"
CLOUD = [block.text for block in blocks(DEPLOY) if block.how == "cloud"]
GRANT = re.compile(
    r"add-iam-policy-binding .*serviceAccount:quillgate-(api|web)@.* --role=\"(\S+)\" "
    r"--condition=\"title=\S+,expression=(.*)\"$",
    re.MULTILINE,
)


def documented() -> tuple[Binding, ...]:
    """Return what the document binds the two services to, and the table what the operator is."""
    found = [
        Binding(
            Identity(identity),
            role.removeprefix("projects/$PROJECT/roles/"),
            tuple(re.findall(r"secrets/([^']+)'", expression)),
            "docs/deploy.md",
        )
        for identity, role, expression in GRANT.findall("\n".join(CLOUD))
    ]
    table = bindings(Names("quillgate"))
    return (*found, *(one for one in table if one.identity is Identity.OPERATOR))


@pytest.fixture
def project(redis_url):
    started = Project(redis_url)
    started.policy = DocumentedPolicy()
    yield started
    started.stop()


class DocumentedPolicy(Policy):
    """Google with the lines of the document, and none else."""

    def __init__(self) -> None:
        super().__init__(Names("quillgate"))
        self._bindings, self._optional = documented(), ()


@pytest.fixture
def set_up(project, monkeypatch, capsys) -> str:
    """Type the lines of step 4 as the operator; return all that they showed."""
    for name, value in project.environ(Identity.OPERATOR).items():
        monkeypatch.setenv(name, value)
    for name in ("QUILLGATE_API_URL", "SECRETS_PREFIX", "KEY_LABEL"):
        monkeypatch.delenv(name, raising=False)
    [text] = [text for text in CLOUD if "users add mary" in text]
    for line in text.splitlines():
        _, ours, command = line.partition("python -m auth ")
        if ours:
            assert main(shlex.split(command)) == 0, line
    return capsys.readouterr().out


@pytest.fixture
def web(project, set_up, web_over):
    return web_over(project)


def test_marys_first_login_with_her_generated_password_works_to_its_end(set_up, web, open_tab):
    """She logs in with what the operator was shown, chooses a password of her own, finds her key
    accepted, and writes; the next login is with her own password."""
    [given] = re.findall(r"^password +(\S+)$", set_up, re.MULTILINE)
    tab = open_tab(web.url)
    tab.log_in("mary", given)
    tab.page.get_by_role("heading", name="A password of your own").wait_for()
    tab.field("Present password").fill(given)
    tab.page.get_by_label("New password", exact=True).fill("a password of mary's own")
    tab.field("New password again").fill("a password of mary's own")
    tab.button("Change password").click()
    tab.button("Generate Text").wait_for()
    tab.button("Test Connection").click()
    tab.sees("Key accepted")
    tab.idle()
    tab.button("Generate Text").click()
    tab.page.locator("[data-testid=stCode]").wait_for()
    assert tab.complaints == []

    again = open_tab(web.url)
    again.log_in("mary", "a password of mary's own")
    again.button("Generate Text").wait_for()
