"""Admin and first passwords over Secret Manager: as the API's identity has rights, so it goes."""

from __future__ import annotations

import pytest

from auth.audit import Actor
from auth.config import AuthSettings
from auth.rights import Identity
from auth.stores import open_stores
from auth.users import generate_password
from tests.support.cloud_project import Project

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine

SENTENCE = (
    "Web users cannot be changed through this API: its identity has no right to their secret."
)
BOTH_WAYS = ("python -m auth secrets grants --web-users", "python -m auth users")


@pytest.fixture
def project(redis_url):
    started = Project(redis_url)
    yield started
    started.stop()


@pytest.fixture
def operator(project):
    """Return who administers on the store itself."""
    settings = AuthSettings.from_env(project.environ(Identity.OPERATOR))
    stores = open_stores(settings, project.redis_url, redis_timeout_seconds=10)
    admin = stores.admin(Actor("cli:test", "local"))
    admin.tenants.add("acme", "standard")
    yield admin
    stores.close()


@pytest.fixture
def people(operator):
    """Return the passwords of the admin `root`, and of `grace`, to whom hers was given."""
    password = generate_password()
    operator.users.add("root", "acme", ["user", "admin"], password=password)
    return {"root": password, "grace": operator.users.add("grace", "acme")["password"]}


@pytest.fixture
def web(project, people, web_over):
    return web_over(project)


def _logged_in(open_tab, web, name, password):
    tab = open_tab(web.url)
    tab.log_in(name, password)
    return tab


def _change_password(tab, given, own):
    tab.field("Present password").fill(given)
    tab.page.get_by_label("New password", exact=True).fill(own)
    tab.field("New password again").fill(own)
    tab.button("Change password").click()


def _panel(tab, name, seen):
    tab.page.get_by_role("tab", name=name).click()
    tab.sees(seen)
    tab.idle()


def test_the_right_on_the_web_users_decides_and_the_page_says_so(
    project, operator, people, web, open_tab
):
    """Without it every panel but Users works, and Users and a first password are told in the
    sentence that names both ways; with it, given while all runs, both are done in the browser."""
    admin = _logged_in(open_tab, web, "root", people["root"])
    admin.button("Generate Text").wait_for()
    admin.go_to("Admin")
    admin.sees("Characters a second")
    for name, seen in (("Tenants", "Add a tenant"), ("Keys", "Issue a key")):
        _panel(admin, name, seen)
        assert not admin.page.get_by_test_id("stAlert").count()
    _panel(admin, "Audit", "Verify the chain")
    admin.button("Verify the chain").click()
    admin.sees("The chain is whole")
    _panel(admin, "Users", SENTENCE)
    told = admin.page.get_by_test_id("stAlert")
    assert told.locator("code").all_text_contents() == list(BOTH_WAYS)
    admin.picture("admin-users-refused")

    grace = _logged_in(open_tab, web, "grace", people["grace"])
    grace.page.get_by_role("heading", name="A password of your own").wait_for()
    _change_password(grace, people["grace"], "a password of grace's own")
    grace.sees(SENTENCE)
    assert grace.page.get_by_test_id("stAlert").locator("code").count() == 2

    project.policy.web_users = True
    _change_password(grace, people["grace"], "a password of grace's own")
    grace.button("Generate Text").wait_for()
    _panel(admin, "Keys", "Issue a key")
    _panel(admin, "Users", "Add a user")
    admin.page.get_by_text("Add a user").click()
    admin.set("Name of the user", "hedy")
    admin.button("Add user").click()
    admin.sees("hedy was added; this is the first password.")
    assert operator.users.show("hedy")["must_change_password"]
    assert (admin.complaints, grace.complaints) == ([], [])
