"""Guessing passwords stays slow, and nobody is locked out for ever."""

from tests.support.web_parts import Clock
from web.throttle import (
    ADDRESS,
    KNOWN_BROWSER,
    NAME,
    NAME_AND_ADDRESS,
    SHARE_OF_ADDRESS,
    LoginThrottle,
    whole_seconds,
)


def test_a_name_at_an_address_gets_five_attempts_in_five_minutes():
    """The sixth attempt waits, and exactly as long as it is told it is admitted again."""
    clock = Clock()
    throttle = LoginThrottle(clock)
    assert [throttle.admit("ada", "192.0.2.1") for _ in range(5)] == [0.0] * 5
    clock.now += 100
    wait = throttle.admit("ada", "192.0.2.1")
    assert wait == NAME_AND_ADDRESS.seconds - 100
    clock.now += wait
    assert throttle.admit("ada", "192.0.2.1") == 0.0


def test_an_attempt_that_waits_is_not_counted():
    """Knocking on while one waits does not prolong the wait."""
    clock = Clock()
    throttle = LoginThrottle(clock)
    for _ in range(30):
        throttle.admit("ada", "192.0.2.1")
    clock.now += NAME_AND_ADDRESS.seconds
    assert throttle.admit("ada", "192.0.2.1") == 0.0


def test_a_stranger_elsewhere_does_not_lock_a_person_out():
    """Attempts on a name from one address leave the same name free at another."""
    throttle = LoginThrottle(Clock())
    for _ in range(6):
        throttle.admit("ada", "192.0.2.66")
    assert throttle.admit("ada", "192.0.2.1") == 0.0


def test_an_address_gets_twenty_attempts_over_all_names():
    """Trying one password on many names is throttled too, known or unknown alike."""
    throttle = LoginThrottle(Clock())
    waits = [throttle.admit(f"user{n}", "192.0.2.1") for n in range(ADDRESS.attempts + 1)]
    assert waits[:-1] == [0.0] * ADDRESS.attempts
    assert waits[-1] > 0


def test_a_name_gets_fifty_attempts_an_hour_over_all_addresses():
    """A guess spread over many addresses is slow as well, and ends by itself."""
    clock = Clock()
    throttle = LoginThrottle(clock)
    waits = [throttle.admit("ada", f"192.0.2.{n}") for n in range(NAME.attempts + 1)]
    assert waits[:-1] == [0.0] * NAME.attempts
    assert waits[-1] > 0
    clock.now += NAME.seconds
    assert throttle.admit("ada", "198.51.100.1") == 0.0


def test_a_success_gives_the_attempts_back():
    """Who mistypes four times and then logs in starts afresh; the address keeps the failures."""
    throttle = LoginThrottle(Clock())
    for _ in range(3):
        assert [throttle.admit("ada", "192.0.2.1") for _ in range(5)] == [0.0] * 5
        throttle.succeeded("ada", "192.0.2.1")
    assert [throttle.admit("ada", "192.0.2.1") for _ in range(5)] == [0.0] * 5
    assert [throttle.admit(f"user{n}", "192.0.2.1") > 0 for n in range(4)] == [
        *[False] * 3,
        True,  # 3 * 4 + 5 + 3 failures
    ]


def test_names_that_look_alike_share_a_counter():
    """Case and outer spaces give no more attempts."""
    throttle = LoginThrottle(Clock())
    for name in ("ada", "Ada", " ada", "ADA ", "aDa"):
        throttle.admit(name, "192.0.2.1")
    assert throttle.admit("ada", "192.0.2.1") > 0


def test_the_addresses_of_one_ipv6_network_share_a_counter():
    """A /64, which one client owns whole, counts as one address."""
    throttle = LoginThrottle(Clock())
    for n in range(5):
        throttle.admit("ada", f"2001:db8::{n}")
    assert throttle.admit("ada", "2001:db8::ffff:1") > 0
    assert throttle.admit("ada", "2001:db8:1::1") == 0.0


def test_memory_is_bounded(monkeypatch):
    """However many names are tried, only so many counters are kept."""
    monkeypatch.setattr("web.throttle.REMEMBERED", 30)
    throttle = LoginThrottle(Clock())
    for n in range(200):
        throttle.admit(f"user{n}", f"192.0.2.{n}")
    assert len(throttle._attempts) <= 30
    throttle.admit("x" * 1_000_000, "192.0.2.1")  # as no field of ours sends it
    assert max(len(part) for counter in throttle._attempts for part in counter) < 200


def test_a_wait_is_told_in_whole_seconds_and_never_as_none():
    """A person who waits as long as told is not turned away again."""
    assert [whole_seconds(s) for s in (0.01, 1.0, 1.2)] == [1, 1, 2]


def _hours_of_strangers(addresses, looked_at):
    """Let strangers knock on a name for five hours, counting by the hour; yield each minute."""
    clock = Clock(0.0)
    throttle = LoginThrottle(clock)
    for minute in range(5 * 60):
        clock.now = minute * 60.0
        looked_at[minute // 60] += sum(throttle.admit("ada", one) == 0.0 for one in addresses)
        yield throttle


def test_one_stranger_never_keeps_a_person_out():
    """For five hours one address knocks; at any minute the person at home gets in, anywhere."""
    looked_at = [0] * 5
    for throttle in _hours_of_strangers(["192.0.2.66"], looked_at):
        assert throttle.admit("ada", "198.51.100.1") == 0.0
        throttle.succeeded("ada", "198.51.100.1")
    assert max(looked_at) <= SHARE_OF_ADDRESS.attempts


def test_many_strangers_never_keep_a_person_out_of_a_known_browser():
    """For five hours twenty addresses knock; they get fifty an hour, and the person gets in."""
    many = [f"192.0.2.{n}" for n in range(20)]
    looked_at, refused_elsewhere = [0] * 5, 0
    for throttle in _hours_of_strangers(many, looked_at):
        assert throttle.admit("ada", "198.51.100.1", "at home") == 0.0
        throttle.succeeded("ada", "198.51.100.1", "at home")
        refused_elsewhere += throttle.admit("ada", "198.51.100.2") > 0
    assert max(looked_at) <= NAME.attempts
    assert refused_elsewhere  # what the known browser is spared


def test_a_known_browser_gets_five_attempts_in_five_minutes_of_its_own():
    """A stolen cookie opens nothing and guesses slowly too."""
    throttle = LoginThrottle(Clock())
    waits = [throttle.admit("ada", f"192.0.2.{n}", "stolen") for n in range(6)]
    assert waits == [0.0] * 5 + [KNOWN_BROWSER.seconds]
    assert throttle.admit("ada", "192.0.2.1", "at home") == 0.0
