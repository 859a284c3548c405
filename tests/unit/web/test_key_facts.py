"""What a key's own account says, in a person's words."""

from tests.support.fake_api import account
from web.key_facts import can_be_cancelled, key_facts, limit_bars, rotation_facts


def test_a_key_is_shown_by_its_public_part():
    """The id is in it, the secret cannot be: the API never says it."""
    facts = dict(key_facts(account(expires_at=1_800_000_000)))
    assert facts["Key"] == "qg_live_7kTq2mXw9ZpA_…"
    assert facts["Plan"] == "standard"
    assert facts["May"] == "generate, key:rotate, usage:read"
    assert facts["Expires"] == "15 January 2027"
    assert "Only from" not in facts


def test_a_key_without_an_expiry_never_ends():
    """Absence is told, not left to be guessed."""
    assert dict(key_facts(account()))["Expires"] == "never"
    assert dict(key_facts({}))["Expires"] == "never"


def test_limits_become_bars_of_what_is_left():
    """Bars are between empty and full, whatever the API says."""
    bars = {bar.name: bar for bar in limit_bars(account())}
    assert bars["Characters today"].said == "815,400 of 1,000,000 left"
    assert bars["Characters today"].left == 0.8154
    odd = [{"name": "x", "limit": 10, "remaining": 99}, {"limit": 0}, "?", {"name": "y"}]
    assert [bar.left for bar in limit_bars({"limits": odd})] == [1.0]
    assert limit_bars({}) == []


def test_a_rotation_whose_new_secret_is_used_says_that_the_old_one_ends_soon():
    """Asked with the new secret the API names no end: the week to change over is not the answer."""
    under_way = {"deadline": 1_900_000_000, "grace_seconds": 3600, "secret_used": "old"}
    used = under_way | {"secret_used": "new", "sunset_at": None}
    assert "works until 17 March 2030" in rotation_facts(under_way)
    assert "ends 60 minutes after the first use" in rotation_facts(used)
    assert can_be_cancelled(under_way)
    assert not can_be_cancelled(used)
