"""A shard is read strictly, and proves a secret in the same way for every key."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth import keyring as module
from auth.api_key import digest, mint
from auth.errors import MalformedKeyringError
from auth.keyring import (
    KeyRecord,
    KeyRing,
    KeyState,
    StoredSecret,
    address_allowed,
    canonical_cidr,
    from_body,
    settled,
    shard_of,
    to_body,
)
from auth.principal import Rotation, Scope, SecretRole

PEPPERS = {"p1": b"1" * 32, "p2": b"2" * 32}
IDS = st.text("abcXYZ019", min_size=12, max_size=12)
TIMES = st.integers(0, 2**40)


def stored(secret: str, pepper_id: str = "p1") -> StoredSecret:
    return StoredSecret(digest(secret, PEPPERS[pepper_id]), pepper_id, 1, "abcd")


def record(key_id: str, *secrets: StoredSecret, **fields) -> KeyRecord:
    if len(secrets) == 2:
        fields.setdefault("rotation", Rotation(1, 100, 10))
    return KeyRecord(
        key_id=key_id,
        tenant="acme",
        name="ci",
        scopes=frozenset({Scope.GENERATE}),
        label="live",
        created_at=1,
        secrets=secrets,
        **fields,
    )


@st.composite
def records(draw) -> KeyRecord:
    secrets = draw(
        st.lists(st.sampled_from([stored("a"), stored("b", "p2")]), min_size=1, max_size=2)
    )
    return record(
        draw(IDS),
        *secrets,
        plan=draw(st.none() | st.just("free")),
        expires_at=draw(st.none() | TIMES),
        allowed_cidrs=tuple(draw(st.lists(st.sampled_from(["10.0.0.0/8", "::/0"]), max_size=2))),
        state=draw(st.sampled_from(KeyState)),
        revoked_at=draw(st.none() | TIMES),
    )


@given(st.lists(records(), max_size=4))
def test_a_ring_survives_its_codec(found):
    """Every field of every record comes back as it was."""
    ring = KeyRing({one.key_id: one for one in found})
    assert dict(from_body(to_body(ring))) == dict(ring)


def good_body() -> dict:
    key = record("AAAAAAAAAAAA", stored("a"), stored("b"), allowed_cidrs=("10.0.0.0/8",))
    return to_body(KeyRing({key.key_id: key}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tenant", None),
        ("tenant", "../x"),
        ("name", ""),
        ("name", "a\nb"),
        ("scopes", ["root"]),
        ("scopes", "generate"),
        ("label", "prod"),
        ("created_at", "1"),
        ("created_at", True),
        ("created_at", -1),
        ("expires_at", 1.5),
        ("state", "on"),
        ("allowed_cidrs", ["10.0.0.1/8"]),
        ("allowed_cidrs", ["everywhere"]),
        ("secrets", []),
        ("secrets", [["00", "p1", 1, "abcd"]]),
        ("rotation", None),
        ("rotation", [1, 2]),
        ("unheard_of", 1),
    ],
)
def test_a_record_with_anything_wrong_refuses_the_whole_shard(field, value):
    """A shard is never used in part, and no value is ever guessed."""
    body = copy.deepcopy(good_body())
    assert len(from_body(body)) == 1
    body["keys"]["AAAAAAAAAAAA"][field] = value
    with pytest.raises(MalformedKeyringError):
        from_body(body)


@pytest.mark.parametrize("key_id", ["short", "AAAAAAAAAAA!", ""])
def test_a_key_id_of_another_shape_refuses_the_shard(key_id):
    """What is looked up is what `parse` can produce."""
    body = good_body()
    body["keys"][key_id] = body["keys"]["AAAAAAAAAAAA"]
    with pytest.raises(MalformedKeyringError):
        from_body(body)


def test_each_secret_of_a_key_is_told_by_its_role():
    """Old, new, only; a wrong secret is nobody's."""
    ring = KeyRing(
        {
            "AAAAAAAAAAAA": record("AAAAAAAAAAAA", stored("old"), stored("new", "p2")),
            "BBBBBBBBBBBB": record("BBBBBBBBBBBB", stored("one")),
        }
    )
    assert ring.verify("AAAAAAAAAAAA", "old", PEPPERS)[1] is SecretRole.OLD
    assert ring.verify("AAAAAAAAAAAA", "new", PEPPERS)[1] is SecretRole.NEW
    assert ring.verify("BBBBBBBBBBBB", "one", PEPPERS)[1] is SecretRole.ONLY
    assert ring.verify("AAAAAAAAAAAA", "one", PEPPERS) is None
    assert ring.verify("CCCCCCCCCCCC", "one", PEPPERS) is None


def test_a_secret_counts_under_its_own_pepper_alone():
    """A digest under one pepper is not accepted under another, nor without it."""
    ring = KeyRing({"AAAAAAAAAAAA": record("AAAAAAAAAAAA", stored("a", "p2"))})
    assert ring.verify("AAAAAAAAAAAA", "a", {"p1": PEPPERS["p1"]}) is None
    assert ring.verify("AAAAAAAAAAAA", "a", {"p1": PEPPERS["p2"]}) is None


def test_known_and_unknown_keys_cost_the_same_digests_and_comparisons(monkeypatch):
    """Neither an id's existence nor how many secrets it has shows in the work done."""
    ring = KeyRing(
        {
            "AAAAAAAAAAAA": record("AAAAAAAAAAAA", stored("old"), stored("new")),
            "BBBBBBBBBBBB": record("BBBBBBBBBBBB", stored("one")),
        }
    )
    work = []
    compare = module.hmac.compare_digest
    monkeypatch.setattr(module, "digest", lambda *args: work.append("digest") or digest(*args))
    monkeypatch.setattr(
        module.hmac, "compare_digest", lambda a, b: work.append((len(a), len(b))) or compare(a, b)
    )
    done = []
    for key_id, secret in (
        ("AAAAAAAAAAAA", "old"),
        ("AAAAAAAAAAAA", "wrong"),
        ("BBBBBBBBBBBB", "one"),
        ("CCCCCCCCCCCC", "any"),
    ):
        work.clear()
        ring.verify(key_id, secret, PEPPERS)
        done.append(list(work))
    assert all(one == done[0] for one in done)
    assert done[0].count("digest") == len(PEPPERS)


@given(st.integers(1, 512))
def test_a_key_is_always_in_the_same_shard(shards):
    """The shard depends on the id and the number of shards alone."""
    key = mint("live")
    assert 0 <= shard_of(key.key_id, shards) < shards
    assert shard_of(key.key_id, shards) == shard_of(key.key_id, shards)


def test_keys_spread_over_the_shards():
    """No shard gets more than twice its share."""
    counts = [0] * 16
    for _ in range(3200):
        counts[shard_of(mint("live").key_id, 16)] += 1
    assert max(counts) < 400


def test_a_rotation_is_over_at_its_deadline():
    """From the deadline on, the new secret is the only one."""
    key = record("AAAAAAAAAAAA", stored("old"), stored("new"))
    assert settled(key, 99) == key
    assert settled(key, 100).secrets == key.secrets[1:]
    assert settled(key, 100).rotation is None


def test_no_list_allows_every_address_and_a_list_only_its_own():
    """What cannot be read as an address is in no list."""
    assert address_allowed("anything", ())
    assert address_allowed("10.9.9.9", ("10.0.0.0/8",))
    assert not address_allowed("11.0.0.1", ("10.0.0.0/8",))
    assert not address_allowed("anything", ("0.0.0.0/0", "::/0"))
    assert address_allowed("fe80::1%eth0", ("fe80::/10",))


def test_ipv4_is_ipv4_however_a_caller_or_a_list_spells_it():
    """As a dual-stack socket says it, in the list or on the line; it is in no list of IPv6."""
    for cidr in ("192.0.2.0/24", "::ffff:192.0.2.0/120", "::ffff:0:0/96"):
        for address in ("192.0.2.5", "::ffff:192.0.2.5", "::FFFF:C000:205"):
            assert address_allowed(address, (cidr,))
        assert not address_allowed("::192.0.2.5", (cidr,))
    assert not address_allowed("::ffff:192.0.3.5", ("::ffff:192.0.2.0/120",))
    assert not address_allowed("::ffff:192.0.2.5", ("::/0",))
    assert canonical_cidr("::ffff:192.0.2.0/120") == "192.0.2.0/24"


@pytest.mark.parametrize(("text", "spelt"), [("10.0.0.1", "10.0.0.1/32"), ("::1", "::1/128")])
def test_a_single_address_is_a_network_of_one(text, spelt):
    """An admin may name one address."""
    assert canonical_cidr(text) == spelt


def test_the_text_of_a_stored_secret_leaves_the_digest_out():
    """A record that is logged by accident gives no digest away."""
    assert stored("a").digest not in repr(record("AAAAAAAAAAAA", stored("a")))
