"""One's own password and one's own key: changed, rotated and cancelled on their pages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.fake_api import Refusal
from tests.support.web_pages import button, field, labels, log_in, open_app, page, press
from tests.support.web_parts import PASSWORD, password_hash

EASY = 'Too easy to guess: your name, "password" or a repetition will not do.'
pytestmark = pytest.mark.usefixtures("parts")
NEW = "a password of my own"


@pytest.fixture
def first_password(users, parts):
    """Let ada have been given her password by somebody."""
    users.accounts["ada"] = replace(users.accounts["ada"], must_change_password=True)
    parts.accounts.refresh()


def _change(app, present=PASSWORD, new=NEW, again=None):
    field(app, "Present password").set_value(present)
    field(app, "New password").set_value(new)
    field(app, "New password again").set_value(new if again is None else again)
    return press(app, "Change password")


def _api_changes_it(api, users):
    """Let the API do what it does: the store has another hash afterwards."""
    api.answers["POST /v1/user/password"] = {"must_change_password": False}
    changed = replace(
        users.accounts["ada"], password_hash=password_hash(NEW), must_change_password=False
    )
    users.accounts["ada"] = changed


def test_a_first_password_opens_nothing_but_the_form(first_password, fake_api):
    """No page, no generation, nothing asked of the API, until it is changed."""
    app = log_in()
    assert labels(app) == ["Change password", "Logout"]
    assert app.title[0].value == "A password of your own"
    with pytest.raises(ValueError, match="generate"):
        app.switch_page("app_pages/generate.py")
    assert fake_api.calls == []


def test_after_the_change_one_is_in_and_the_old_sessions_are_out(first_password, fake_api, users):
    """This tab goes on with a new session; a copy of the old one shows the login form."""
    app, copy = log_in(), open_app()
    copy.session_state["_session_token"] = app.session_state["_session_token"]
    assert "Change password" in labels(copy.run())
    _api_changes_it(fake_api, users)
    _change(app)
    assert "Generate Text" in labels(app)
    sent = next(call.body for call in fake_api.calls if call.path == "/v1/user/password")
    assert sent == {"user": "ada", "current_password": PASSWORD, "new_password": NEW}
    assert labels(copy.run()) == ["Login"]
    assert "Generate Text" in labels(log_in("ada", NEW))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"new": "short"}, "At least 10 characters."),
        ({"new": "Password1234"}, EASY),
        ({"new": "passwordpassword"}, EASY),
        ({"new": "ada-ada-ada"}, EASY),
        ({"new": "abcabcabcabc"}, EASY),
        ({"new": "é" * 40}, "At most 72 bytes: about as many letters."),
        ({"new": PASSWORD}, "Choose another one than the present password."),
        ({"again": "something else"}, "The two are not the same."),
    ],
)
def test_what_is_wrong_with_a_password_is_told_and_not_sent(first_password, fake_api, how, told):
    """Beside the field that it is about; nothing leaves the web app."""
    app = _change(log_in(), **how)
    assert [error.value for error in app.error] == [told]
    assert fake_api.calls == []


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (
            Refusal(
                422,
                "invalid_request",
                errors=[{"field": "current_password", "message": "is wrong"}],
            ),
            "This is not your present password.",
        ),
        (Refusal(409, "conflict", detail="Not *from* here."), "Not &#42;from&#42; here."),
        (Refusal(429, "too_many_failures", 30), "Too many refused keys"),
    ],
)
def test_what_the_api_refuses_is_told(first_password, fake_api, refusal, told):
    """The password stays what it was, and one is asked again."""
    fake_api.answers["POST /v1/user/password"] = refusal
    app = _change(log_in())
    assert [error.value.startswith(told) for error in app.error] == [True]
    assert "Generate Text" not in labels(app)


def test_anybody_can_change_their_password_later(fake_api, users, parts):
    """The same form on the page of the key; one stays logged in."""
    app = page("my_key")
    _api_changes_it(fake_api, users)
    _change(app)
    assert [told.value for told in app.success] == ["Your password is changed."]
    assert NEW not in repr(app.session_state._state._state)


def _rotated(api, users):
    key = f"qg_live_{'n' * 12}_made-up"
    api.answers["POST /v1/key/rotate"] = {"key": key, "forwarded_for": ["ada"]}
    return key


def test_rotating_is_confirmed_and_shows_the_new_key_once(fake_api, users):
    """Nothing happens without the confirmation; the key is there for one look, and kept."""
    key = _rotated(fake_api, users)
    app = page("my_key")
    assert button(app, "Rotate").disabled
    field(app, "I know where else this key is used").set_value(True).run()
    press(app, "Rotate")
    assert [code.value for code in app.code] == [key]
    assert users.kept == [("ada", key)]
    assert key not in repr(app.session_state._state._state)
    assert not press(app, "Done").code


def test_a_new_key_outlasts_a_change_of_the_password(fake_api, users):
    """The change begins another login in this tab; what was not put away is still there to copy."""
    key = _rotated(fake_api, users)
    app = page("my_key")
    field(app, "I know where else this key is used").set_value(True).run()
    press(app, "Rotate")
    _api_changes_it(fake_api, users)
    _change(app)
    assert [code.value for code in app.code] == [key]


def test_a_rotation_can_be_cancelled_from_the_page(fake_api, users):
    """The page says until when both secrets work, and takes the new one back."""
    app = page("my_key")
    fake_api.account["rotation"] = {"deadline": 1_900_000_000, "sunset_at": 1_900_000_000}
    fake_api.answers["DELETE /v1/key/rotation"] = {"forwarded_for": ["ada"]}
    field(app, "I know where else this key is used").set_value(True).run()
    _rotated(fake_api, users)
    press(press(app, "Rotate"), "Done")
    assert any("17 March 2030" in one.value for one in app.markdown)
    fake_api.account["rotation"] = None
    press(app, "Cancel rotation")
    assert "cancelled" in app.success[0].value
    assert users.kept[-1] == ("ada", users.key)


def test_a_rotation_that_is_cancelled_takes_its_key_off_the_page(fake_api, users):
    """What stands above every page until "Done" must not be a key that is dead."""
    app = page("my_key")
    fake_api.account |= {"key_id": "n" * 12, "rotation": {"deadline": 1_900_000_000}}
    fake_api.answers["DELETE /v1/key/rotation"] = {"forwarded_for": ["ada"]}
    field(app, "I know where else this key is used").set_value(True).run()
    key = _rotated(fake_api, users)
    assert [code.value for code in press(app, "Rotate").code] == [key]
    fake_api.account["rotation"] = None
    press(app, "Cancel rotation")
    assert not app.code


def test_a_rotation_whose_new_secret_is_used_cannot_be_cancelled(fake_api):
    """A button that can only fail is not offered."""
    fake_api.account["rotation"] = {"deadline": 1_900_000_000, "secret_used": "new"}
    app = page("my_key")
    assert "Cancel rotation" not in [button.label for button in app.button]


def test_a_used_rotation_is_told_in_the_apis_sentence(fake_api):
    """The API has the last word on whether it can be taken back."""
    fake_api.account["rotation"] = {"deadline": 1_900_000_000, "sunset_at": None}
    fake_api.answers["DELETE /v1/key/rotation"] = Refusal(409, "conflict", detail="It was used.")
    assert press(page("my_key"), "Cancel rotation").error[0].value == "It was used."


def test_a_key_is_told_by_its_id_and_its_last_four(users):
    """What is shown is what lists and mails show of it."""
    shown = " ".join(element.value for element in page("my_key").markdown)
    assert "7kTq2mXw9ZpA" in shown
    assert users.key[-4:] in shown
    assert users.key[-6:] not in shown


@pytest.mark.parametrize(("days", "said"), [(14, "14 days"), (3, "3 days"), (1, "a day")])
def test_a_person_is_told_before_their_key_expires(fake_api, days, said):
    """What the API says of the expiry is said on the page of the key."""
    fake_api.account |= {"expires_at": 1_900_000_000, "expires_in_days": days}
    app = page("my_key")
    assert f"expires within {said}, on 17 March 2030" in app.warning[0].value
