"""The whole road: a person, a real browser, the real web app, the real API, a real Redis, a GPT."""

from __future__ import annotations

import contextlib
import json
import threading

import psutil
import pytest
from playwright.sync_api import TimeoutError as NotSeen

from auth.audit import Actor
from auth.embedded_redis import ensure
from auth.propagation import ADMIN_TIMEOUT_SECONDS
from auth.stores import open_stores
from tests.support.api_server import ApiServer
from tests.support.programs import run_shown
from tests.support.web_server import WebServer, people

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Yield the home of people with a story each."""
    peopled = people(tmp_path_factory.mktemp("journey") / "home")
    for name in ("rose", "nina", "mona"):
        peopled.person(name)
    yield peopled
    peopled.close()


@pytest.fixture(scope="module")
def first_password(home):
    """Return the password that `grace` was given."""
    return home.admin.users.add("grace", "acme")["password"]


@pytest.fixture(scope="module")
def redis(home):
    started = ensure(home.path)
    yield started
    started.close()


@pytest.fixture(scope="module")
def api(home, first_password, redis):
    """Yield the API with the shipped model: a tiny one is done before one can press Stop."""
    server = ApiServer({"QUILLGATE_HOME": str(home.path), "MODEL_URI": "models/demo"})
    yield server.wait_ready()
    server.stop()


@pytest.fixture(scope="module")
def web(api, home):
    server = WebServer(home.path, api.url)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def admin(home, redis):
    """Return an admin whose changes every instance learns of at once."""
    stores = open_stores(home.settings, redis.url, redis_timeout_seconds=ADMIN_TIMEOUT_SECONDS)
    yield stores.admin(Actor("cli:test", "local"))
    stores.close()


@pytest.fixture
def logged_in(web, open_tab):
    """Return a function that opens a window in which somebody is logged in."""

    def opened(person, **context):
        tab = open_tab(web.url, **context)
        tab.log_in(person.name, person.password)
        tab.button("Generate Text").wait_for()
        tab.idle()
        return tab

    return opened


@contextlib.contextmanager
def _slowed(api):
    """Let the API run a sixth of the time: a text is under way for as long as one looks."""
    served = psutil.Process(api.process.pid)
    processes = [served, *served.children(recursive=True)]
    done = threading.Event()

    def hold_back():
        while not done.wait(0.05):
            for process in processes:
                process.suspend()
            done.wait(0.25)
            for process in processes:
                process.resume()

    holding = threading.Thread(target=hold_back)
    holding.start()
    try:
        yield
    finally:
        done.set()
        holding.join()


def _aborted(api):
    ended = [json.loads(line) for line in api.lines if line.startswith("{")]
    return [line for line in ended if line.get("finish_reason") == "aborted"]


def test_a_first_password_is_changed_before_anything_else(web, home, first_password, open_tab):
    """The given one opens the form alone; one's own opens everything, in this tab and the next."""
    tab = open_tab(web.url)
    tab.log_in("grace", first_password)
    tab.page.get_by_role("heading", name="A password of your own").wait_for()
    tab.idle()
    assert not tab.page.get_by_role("link", name="Usage").count()
    own = "a password of grace's own"
    tab.field("Present password").fill(first_password)
    tab.page.get_by_label("New password", exact=True).fill(own)
    tab.field("New password again").fill("another one")
    tab.button("Change password").click()
    tab.sees("The two are not the same.")
    tab.picture("first-password")
    first_session = tab.session_cookie()
    tab.field("New password again").fill(own)
    tab.button("Change password").click()
    tab.button("Generate Text").wait_for()
    tab.until(lambda: tab.session_cookie() != first_session)
    tab.page.reload()
    tab.button("Generate Text").wait_for()
    again = open_tab(web.url)
    again.log_in("grace", first_password)
    again.sees("Username or password is not right.")
    again.log_in("grace", own)
    again.button("Generate Text").wait_for()
    assert tab.complaints == []


def test_generate_stop_continue_regenerate_log_out(api, web, home, logged_in, open_tab):
    """Text streams in, Stop keeps it and reaches the API, Continue writes on from it, the same seed
    gives the same text, and after logout a replayed cookie shows the login form."""
    tab = logged_in(home.ada)
    tab.button("Test Connection").click()
    tab.sees("Key accepted")
    tab.idle()

    with _slowed(api):
        tab.field("Seed").fill("42")  # and on at once, as people type
        tab.field("Number of characters", "spinbutton").fill("10000")
        tab.button("Generate Text").click()
        tab.page.locator("[data-testid=stCode]").wait_for()
        lengths = {len(tab.text())}

        def grew():
            lengths.add(len(tab.text()))
            return len(lengths) >= 3 and max(lengths) >= 200

        tab.until(grew)
        tab.picture("generating-light")
        tab.button("Stop").click()
        tab.sees("stopped ·")
    tab.idle()
    kept = tab.text()
    assert max(lengths) <= len(kept) < 10_000
    tab.until(lambda: len(_aborted(api)) == 1)

    tab.set("Number of characters", "120", "spinbutton")
    tab.button("Generate Text").click()
    tab.sees("finished · 120 of 120 characters")
    tab.sees("seed 42 ·")
    tab.idle()
    assert tab.text() == kept[:120]
    tab.button("Continue").click()
    tab.until(lambda: len(tab.text()) == 240)
    tab.idle()
    assert tab.text().startswith(kept[:120])
    tab.picture("done-light")
    tab.button("Regenerate").click()
    tab.until(lambda: len(tab.text()) == 240 and tab.button("Regenerate").count())
    tab.idle()

    tab.until(tab.session_cookie)
    copied = tab.session_cookie()
    tab.button("Logout").click()
    tab.field("Username").wait_for()
    thief = open_tab(web.url)
    thief.context.add_cookies([copied])
    thief.open()
    thief.field("Username").wait_for()
    assert tab.complaints == []
    secret = home.ada.key.split("_")[3]
    assert secret not in api.log
    assert secret not in web.log.read_text()


def test_a_key_that_is_rotated_in_one_tab_goes_unnoticed_in_another(
    api, home, admin, logged_in, open_tab
):
    """What is being written goes on; the new key is shown once and works elsewhere; and when the
    old secret ends at once, the web app reads the new one by itself."""
    writing, rotating = logged_in(home.people["rose"]), logged_in(home.people["rose"])
    writing.set("Number of characters", "10000", "spinbutton")
    rotating.go_to("My API key")
    rotating.picture("key")
    rotating.page.get_by_text("I know where else this key is used").click()
    rotating.idle()
    with _slowed(api):
        writing.button("Generate Text").click()
        writing.page.locator("[data-testid=stCode]").wait_for()
        rotating.button("Rotate").click()
        rotating.sees("Your key has a new secret.")
        assert not writing.page.get_by_text("finished ·").count()
    rotating.idle()
    new = rotating.text().strip()
    assert api.get("/v1/key", new).json()["name"] == "web user rose"
    rotating.button("Done").click()
    rotating.page.get_by_text("Copy it now").wait_for(state="detached")
    rotating.sees("A rotation is under way")
    rotating.idle()
    assert new not in rotating.page.content()
    rotating.button("Cancel rotation").click()
    rotating.sees("has been used")  # by us, above
    finished = writing.page.get_by_text("finished · 10,000 of 10,000 characters")
    finished.wait_for(timeout=120_000)  # as long as a busy machine takes to write it
    key_id = admin.users.show("rose")["key_id"]
    admin.keys.rotate(key_id, deadline_seconds=0, force=True)
    writing.set("Number of characters", "50", "spinbutton")
    writing.button("Generate Text").click()
    writing.sees("finished · 50 of 50 characters")


def test_a_rotation_that_was_never_used_is_cancelled(api, home, admin, logged_in):
    """The new secret is refused, the old one and the web app go on, and another rotation works."""
    nina = home.people["nina"]
    tab = logged_in(nina)
    tab.go_to("My API key")
    for _ in range(2):
        tab.page.get_by_text("I know where else this key is used").click()
        tab.idle()
        tab.button("Rotate").click()
        tab.sees("Your key has a new secret.")
        tab.idle()
        new = tab.text().strip()
        tab.button("Done").click()
        tab.page.get_by_text("Copy it now").wait_for(state="detached")
        tab.button("Cancel rotation").click()
        tab.sees("The rotation is cancelled: the key is what it was.")
        assert api.get("/v1/key", new).status_code == 401
        assert api.get("/v1/key", nina.key).status_code == 200
        tab.idle()
    assert admin.keys.show(admin.users.show("nina")["key_id"])["rotation"] is None
    tab.go_to("Custom GPT Model")
    tab.set("Number of characters", "50", "spinbutton")
    tab.button("Generate Text").click()
    tab.sees("finished · 50 of 50 characters")


def test_what_a_phone_types_is_told_mended_and_generated(home, logged_in):
    """The model knows no typographic characters, and no double quotes either: each refusal shows
    which, and a click lets what it knows stand for them."""
    tab = logged_in(home.people["mona"])
    tab.set("Number of characters", "50", "spinbutton")
    tab.set("Prompt", "\u201cIt\u2019s late \u2013 go on\u2026\u201d, said he")
    tab.button("Generate Text").click()
    tab.sees("Please look at the marked field.")
    tab.sees("The model does not know these characters: \u201c \u2019 \u2013 \u2026 \u201d.")
    tab.idle()
    tab.picture("422-light")
    tab.button("Replace by plain ones").click()
    tab.shows("Prompt", '"It\'s late - go on...", said he')
    tab.idle()
    tab.button("Generate Text").click()
    tab.sees('The model does not know this character: ".')
    tab.idle()
    tab.button("Replace by plain ones").click()
    tab.shows("Prompt", "'It's late - go on...', said he")
    tab.idle()
    tab.button("Generate Text").click()
    tab.sees("finished · 50 of 50 characters")


def test_two_temperatures_give_two_texts_and_a_phone_shows_its_one(home, logged_in):
    """From one seed the model writes soberly and boldly, side by side; on a phone as well."""
    for scheme in ("light", "dark"):
        tab = logged_in(home.people["mona"], color_scheme=scheme)
        tab.set("Prompt", "KING:\n")
        tab.set("Number of characters", "200", "spinbutton")
        tab.compare()
        tab.button("Generate Text").click()
        tab.page.get_by_text("finished ·").nth(1).wait_for()
        tab.idle()
        tab.page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop = 0")
        tab.picture(f"compare-{scheme}")
        texts = tab.page.locator("[data-testid=stCode] code")
        tab.until(lambda texts=texts: len(set(texts.all_text_contents())) == 2)
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    tab = logged_in(home.people["mona"], **phone, color_scheme="dark")
    tab.picture("phone-form-dark")
    tab.set("Prompt", "ROMEO:\n")
    tab.button("Generate Text").click()
    tab.sees("finished · 200 of 200 characters")
    tab.page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop = 0")
    tab.picture("phone-done-dark")


def test_a_revoked_key_is_told_in_one_sentence(home, admin, logged_in):
    """The person learns whom to ask."""
    tab = logged_in(home.people["mona"])
    admin.keys.revoke(admin.users.show("mona")["key_id"], reason="test")
    tab.set("Prompt", "plain")
    tab.button("Generate Text").click()
    tab.sees("Your API key was refused.")


def _open_admin(tab, panel):
    tab.go_to("Admin")
    tab.page.get_by_role("tab", name=panel).click()
    tab.idle()


def _choose(tab, box, option):
    """Choose from a list; it is opened again if the page was drawn anew just then and closed it."""
    listed = tab.page.get_by_role("option", name=option)
    for _ in range(10):
        tab.page.get_by_role("combobox", name=box).last.click()
        with contextlib.suppress(NotSeen):
            listed.wait_for(timeout=3_000)
            break
        tab.page.keyboard.press("Escape")
    listed.click()
    tab.idle()


def test_an_admin_issues_a_key_a_curl_works_with_it_and_it_is_revoked(api, home, logged_in):
    """The key is shown once, the shown programs generate the same text with it, it counts as usage,
    and it is refused after its revocation."""
    tab = logged_in(home.root)
    tab.set("Number of characters", "50", "spinbutton")
    tab.button("Generate Text").click()
    tab.sees("finished ·")
    tab.idle()
    text = tab.text()
    tab.page.get_by_text("This call in a program").click()
    tab.page.get_by_text("curl -sS").wait_for()
    programs = {}
    for language, begins in (
        ("curl", "curl -sS"),
        ("Python", "import json"),
        ("JavaScript", "await"),
    ):
        tab.page.get_by_role("radio", name=language).click()
        tab.page.locator("[data-testid=stCode] code", has_text=begins).wait_for()
        tab.idle()
        programs[language] = tab.page.locator("[data-testid=stCode] code").last.text_content()

    _open_admin(tab, "Keys")
    tab.page.get_by_text("Issue a key").click()
    tab.set("Name of the key", "ci")
    tab.button("Issue").click()
    tab.sees("Copy it now")
    tab.idle()
    key = tab.text().strip()
    written = {name: run_shown(name, one, {"GPT_API_KEY": key}) for name, one in programs.items()}
    assert json.loads(written.pop("curl"))["text"] == text
    assert written == {"Python": f"{text}\n", "JavaScript": f"{text}\n"}

    tab.go_to("Usage")
    tab.sees("Everything that was used in acme")
    tab.picture("usage")

    _open_admin(tab, "Keys")
    tab.page.get_by_text("Rotate or revoke a key").click()
    _choose(tab, "Key", f"ci · {key.split('_')[2]}")
    tab.set("Reason of a revocation", "leaked")
    tab.picture("admin")
    tab.button("Revoke").click()
    tab.button("Yes, do it").click()
    tab.sees("The key is revoked.")
    assert api.post("/generate", key, num_chars=50).status_code == 401
    for panel, seen in (("Load", "Waiting"), ("Tenants", "Add a tenant"), ("Users", "Add a user")):
        tab.page.get_by_role("tab", name=panel).click()
        tab.sees(seen)
        tab.picture(f"admin-{panel.lower()}")
    tab.page.get_by_role("tab", name="Audit").click()
    tab.button("Verify the chain").click()
    tab.sees("The chain is whole")
    tab.picture("admin-audit")
    assert tab.complaints == []
