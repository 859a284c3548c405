"""A browser is known for the person who logged in there, for a while, and by our word only."""

from tests.support.web_parts import Clock
from web.known_browsers import KNOWN_SECONDS, KnownBrowsers, cookie_name


def test_a_browser_is_known_for_its_person_only():
    """Each cookie is another browser; the spelling of the name makes no other person."""
    browsers = KnownBrowsers("k" * 40, clock=Clock())
    one, other = browsers.token("ada"), browsers.token("ada")
    assert browsers.number(one, " Ada") is not None
    assert browsers.number(one, "ada") != browsers.number(other, "ada")
    assert browsers.number(one, "root") is None
    assert cookie_name("ada", https=True) == cookie_name("ADA ", https=True)
    assert cookie_name("ada", https=True) != cookie_name("root", https=True)


def test_a_made_up_or_old_cookie_is_of_no_known_browser():
    """Nobody makes a browser known but a login, and not for ever."""
    clock = Clock()
    browsers = KnownBrowsers("k" * 40, clock=clock)
    token = browsers.token("ada")
    for strange in (None, "", "x", token[:-1], KnownBrowsers("o" * 40).token("ada"), "x" * 5000):
        assert browsers.number(strange, "ada") is None
    clock.now += KNOWN_SECONDS
    assert browsers.number(token, "ada") is None
