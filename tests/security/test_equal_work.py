"""A refused key costs the same work whatever is wrong with it, so that time tells nothing.

Work is counted, not timed: digests under the pepper, comparisons, reads of Redis.
"""

from __future__ import annotations

import hmac
from collections import Counter
from dataclasses import replace

import pytest
import redis

from auth.api_key import mint, parse
from auth.errors import InvalidKeyError
from tests.support.auth_world import FlakyStore, World

DAY = 86_400


@pytest.fixture
def keys(file_world: World):
    """Return a world with a bad key of every kind, and the kinds."""
    world, admin = file_world, file_world.tenant()
    good = admin.keys.issue("acme", "good", ["generate"])
    expired = admin.keys.issue("acme", "e", ["generate"], expires_at=int(world.clock()) + 60)
    revoked = admin.keys.issue("acme", "r", ["generate"])
    admin.keys.revoke(revoked["key_id"], "leaked")
    rotating = admin.keys.issue("acme", "rotating", ["generate"])
    admin.keys.rotate(rotating["key_id"], deadline_seconds=30)
    rotated_out = admin.keys.issue("acme", "rotated out", ["generate"])
    admin.keys.rotate(rotated_out["key_id"], deadline_seconds=0)
    world.clock.now += 61
    bad = {
        "missing": None,
        "empty": "",
        "malformed": good["key"][:-1],
        "unknown id": mint("live").reveal(),
        "wrong secret": mint("live", good["key_id"]).reveal(),
        "wrong secret of a rotating key": mint("live", rotating["key_id"]).reveal(),
        "wrong label": mint("test", good["key_id"]).reveal(),
        "wrong label, right secret": replace(parse(good["key"]), label="test").reveal(),
        "expired": expired["key"],
        "revoked": revoked["key"],
        "past its deadline": rotating["key"],
        "rotated out": rotated_out["key"],
    }
    return world, bad


@pytest.mark.parametrize("peppers", [1, 2])
@pytest.mark.parametrize("look_up", [True, False])
def test_every_refusal_does_the_same_work(keys, monkeypatch, peppers, look_up):
    """Known id or not, key or not: as many digests, comparisons and reads; none of the store."""
    world, bad = keys
    if peppers == 2:
        world.admin().peppers.rotate()
    store = FlakyStore(world.open_store())
    keyring = world.loaded(store)
    work = Counter()
    digest, compare = hmac.digest, hmac.compare_digest

    def counted_digest(*arguments):
        work["digests"] += 1
        return digest(*arguments)

    def counted_compare(*arguments):
        work["comparisons"] += 1
        work["compared characters"] += len(arguments[0])
        return compare(*arguments)

    with redis.Redis.from_url(world.redis_url) as client:
        with pytest.raises(InvalidKeyError):  # the first request confirms what was loaded
            keyring.authenticate(None, "192.0.2.9", world.clock(), look_up=look_up)
        monkeypatch.setattr(hmac, "digest", counted_digest)
        monkeypatch.setattr(hmac, "compare_digest", counted_compare)
        found = {}
        for kind, key in bad.items():
            work.clear()
            store.asked.clear()
            client.config_resetstat()
            with pytest.raises(InvalidKeyError):
                keyring.authenticate(key, "192.0.2.9", world.clock(), look_up=look_up)
            stats = client.info("commandstats")
            reads = stats.get("cmdstat_get", {"calls": 0})["calls"]
            found[kind] = (dict(work), reads, list(store.asked))
    expected = (
        {"digests": peppers, "comparisons": 2, "compared characters": 128},
        1 if look_up else 0,
        [],
    )
    assert {kind: one for kind, one in found.items() if one != expected} == {}
