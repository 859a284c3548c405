"""How fast keys are checked and loaded, reproducibly: python -m bench.keys [--keys N] [--shards N].

A keyring of many keys is put into the tests' Secret Manager server, which runs as a process of its
own as Google's would; then it is loaded in parallel, as at an instance's start, and keys are
checked: good ones, unknown ones and wrong ones, interleaved. Medians are printed; nothing asserts.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable

from auth import directory as directories
from auth import keyring as keyrings
from auth.api_key import ApiKey, digest, mint
from auth.directory import Directory, Tenant
from auth.documents import Documents
from auth.errors import InvalidKeyError
from auth.keyring import KeyRecord, KeyRing, StoredSecret, shard_of
from auth.keyring_store import KeyringStore
from auth.names import Names
from auth.plans import load_plans
from auth.principal import Scope
from auth.secrets import SecretStore
from auth.secrets.google import GoogleSecretStore

NAMES = Names("bench")
PEPPER = bytes(range(32))
SCOPES = frozenset({Scope.GENERATE, Scope.USAGE_READ, Scope.KEY_ROTATE})
REPEATS = 7
CHECKS = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.keys", description=__doc__)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=64)
    args = parser.parse_args()
    command = [sys.executable, "-m", "tests.support.secret_manager", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            host = server.stdout.readline().rpartition("=")[2].strip()
            store = GoogleSecretStore("bench", emulator_host=host)
            keys = fill(store, args.keys, args.shards)
            measure(store, keys, args.shards)
            store.close()
        finally:
            server.terminate()


def fill(store: SecretStore, count: int, shards: int) -> list[ApiKey]:
    """Write a keyring of `count` keys over `shards` secrets."""
    documents = Documents(store)
    keys = [mint("live") for _ in range(count)]
    rings: dict[int, dict[str, KeyRecord]] = defaultdict(dict)
    for number, key in enumerate(keys):
        secret = StoredSecret(digest(key.secret, PEPPER), "p1", 1_800_000_000, key.tail)
        rings[shard_of(key.key_id, shards)][key.key_id] = KeyRecord(
            *(key.key_id, "acme", f"key {number}", SCOPES, "live", 1_800_000_000, (secret,))
        )
    store.ensure_secret(NAMES.pepper("p1"))
    store.add_version(NAMES.pepper("p1"), PEPPER)
    for shard in range(shards):
        documents.create(NAMES.shard(shard), keyrings.to_body(KeyRing(rings[shard])))
    tenants = {"acme": Tenant("acme", "standard", 1_800_000_000)}
    directory = Directory(shards, "p1", ("p1",), tenants)
    documents.create(NAMES.directory, directories.to_body(directory))
    return keys


def measure(store: SecretStore, keys: list[ApiKey], shards: int) -> None:
    keyring = KeyringStore(store, None, prefix=NAMES.prefix, plans=load_plans())
    loads = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        keyring.load()
        loads.append(time.perf_counter() - began)
    print(f"{len(keys):,} keys over {shards} shards, {REPEATS} repeats")
    print(
        f"load           {statistics.median(loads):8.3f} s   ({min(loads):.3f}..{max(loads):.3f})"
    )

    step = max(1, len(keys) // CHECKS)
    good = [key.reveal() for key in keys[::step]]
    kinds: dict[str, list[str]] = {
        "good key": good,
        "unknown id": [mint("live").reveal() for _ in good],
        "wrong secret": [mint("live", key.key_id).reveal() for key in keys[::step]],
        "no key": [text[:-1] for text in good],
    }
    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(REPEATS):
        for kind, texts in kinds.items():  # interleaved, so that a busy moment hits all alike
            taken[kind].append(_seconds_each(keyring, texts))
    for kind, seconds in taken.items():
        spread = f"({min(seconds) * 1e6:.1f}..{max(seconds) * 1e6:.1f})"
        print(f"{kind:<14} {statistics.median(seconds) * 1e6:8.1f} us  {spread}")


def _seconds_each(keyring: KeyringStore, texts: list[str]) -> float:
    check: Callable[[str], object] = lambda text: keyring.authenticate(  # noqa: E731 - in one place
        text, "192.0.2.1", now, look_up=False
    )
    now = time.time()
    began = time.perf_counter()
    for text in texts:
        try:
            check(text)
        except InvalidKeyError:
            continue
    return (time.perf_counter() - began) / len(texts)


if __name__ == "__main__":
    main()
