"""Writers that race through read_alias, add_version and move_alias lose nothing.

The document under test is a list of words, one a line, in the secret `ledger`, alias `current`.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from auth.secrets import (
    AliasState,
    SecretConflictError,
    SecretNotFoundError,
    SecretStore,
    SecretStoreUnavailableError,
)
from auth.secrets.file import FileSecretStore
from tests.support.secret_manager import Call, SecretManagerServer

ROOT = Path(__file__).parents[2]


def words_in(store: SecretStore) -> list[str]:
    state = store.read_alias("ledger", "current")
    if state.number is None:
        return []
    return store.access("ledger", state.number).data.decode().split("\n")


def append(store: SecretStore, word: str) -> None:
    """Append a word by compare-and-swap, as the rooms do with their documents."""
    while True:
        state = store.read_alias("ledger", "current")
        try:
            words = [] if state.number is None else words_at(store, state.number)
        except SecretNotFoundError:
            continue  # superseded and destroyed since the alias was read
        if word in words:
            return  # an earlier try, whose outcome was unknown, went through
        number = store.add_version("ledger", "\n".join([*words, word]).encode())
        try:
            store.move_alias("ledger", "current", number, state.etag)
        except SecretConflictError:
            store.destroy_version("ledger", number)
        except SecretStoreUnavailableError:
            continue
        else:
            for version in store.list_versions("ledger"):
                if version.number < number:
                    store.destroy_version("ledger", version.number)
            return


def words_at(store: SecretStore, number: int) -> list[str]:
    return store.access("ledger", number).data.decode().split("\n")


def race(stores: list[SecretStore], words_each: int) -> None:
    """Let every store append its words at the same time; the words sort by store."""
    start = threading.Barrier(len(stores))

    def write(index: int) -> None:
        start.wait()
        for word in range(words_each):
            append(stores[index], f"{index}-{word}")

    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(write, range(len(stores))))


def assert_whole(words: list[str], writers: int, words_each: int) -> None:
    """Every word is there once, and each writer's words are in the order it wrote them."""
    assert len(words) == writers * words_each
    for writer in range(writers):
        own = [word for word in words if word.startswith(f"{writer}-")]
        assert own == [f"{writer}-{word}" for word in range(words_each)]


def test_concurrent_writers_lose_nothing(open_secret_store: Callable[[], SecretStore]) -> None:
    """Ten instances write three times each at once: 30 changes present, one version left."""
    stores = [open_secret_store() for _ in range(10)]
    stores[0].ensure_secret("ledger")
    race(stores, words_each=3)
    assert_whole(words_in(stores[0]), writers=10, words_each=3)
    live = [version.number for version in stores[0].list_versions("ledger")]
    assert live == [stores[0].read_alias("ledger", "current").number]


def test_lost_answers_lose_no_write_and_repeat_none(secret_manager: SecretManagerServer) -> None:
    """Secret Manager drops answers at random places of a race; every word is still there once."""
    from auth.secrets.google import GoogleSecretStore

    stores: list[SecretStore] = [
        GoogleSecretStore("test-project", emulator_host=secret_manager.host) for _ in range(4)
    ]
    stores[0].ensure_secret("ledger")
    for method in ("UpdateSecret", "AddSecretVersion", "GetSecret", "UpdateSecret"):
        secret_manager.inject(method, code="UNAVAILABLE", applied=True, times=2)
        secret_manager.inject(method, code="UNAVAILABLE", applied=False, times=1)
    race(stores, words_each=3)
    assert_whole(words_in(stores[0]), writers=4, words_each=3)
    for store in stores:
        store.close()


def test_writers_that_see_the_past_wait_for_the_present(
    secret_manager: SecretManagerServer,
) -> None:
    """While reads of the secret are stale every write is refused; afterwards all get through."""
    from auth.secrets.google import GoogleSecretStore

    stores: list[SecretStore] = [
        GoogleSecretStore("test-project", emulator_host=secret_manager.host) for _ in range(3)
    ]
    stores[0].ensure_secret("ledger")
    append(stores[0], "first")
    secret_manager.vault.hold(metadata=True)

    def catch_up_in_time(_call: Call) -> bool:
        if secret_manager.count("UpdateSecret") == 6:
            secret_manager.vault.release()
        return True

    secret_manager.authorize = catch_up_in_time
    race(stores, words_each=1)
    assert sorted(words_in(stores[0])) == ["0-0", "1-0", "2-0", "first"]
    for store in stores:
        store.close()


def test_processes_share_the_files_without_loss(tmp_path: Path) -> None:
    """Four processes append to one directory; the lock holds between processes, not threads."""
    store = FileSecretStore(tmp_path)
    store.ensure_secret("ledger")
    code = """
import sys
from pathlib import Path
from auth.secrets.file import FileSecretStore
from tests.stateful.test_secret_cas import append
for word in range(5):
    append(FileSecretStore(Path(sys.argv[1])), f"{sys.argv[2]}-{word}")
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(n)], cwd=ROOT)
        for n in range(4)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    assert_whole(words_in(store), writers=4, words_each=5)


class SecretStoreMachine(RuleBasedStateMachine):
    """Two stores over one secret, driven at will, against a model of what they may answer."""

    stores: list[SecretStore]  # set by the test
    examples = 0

    @initialize()
    def begin(self) -> None:
        type(self).examples += 1
        self.name = f"ledger-{self.examples}"
        self.stores[0].ensure_secret(self.name)
        self.payloads: dict[int, bytes | None] = {}
        self.alias: int | None = None
        self.held: list[tuple[AliasState, int]] = []  # etags read, with the epoch they are of
        self.epoch = 0

    @rule(store=st.integers(0, 1), data=st.binary(min_size=1, max_size=20))
    def add(self, store: int, data: bytes) -> None:
        number = self.stores[store].add_version(self.name, data)
        assert number == len(self.payloads) + 1
        self.payloads[number] = data

    @rule(store=st.integers(0, 1))
    def read(self, store: int) -> None:
        state = self.stores[store].read_alias(self.name, "current")
        assert state.number == self.alias
        self.held.append((state, self.epoch))

    @precondition(lambda self: self.held)
    @rule(store=st.integers(0, 1), data=st.data())
    def move(self, store: int, data: st.DataObject) -> None:
        live = sorted(number for number, payload in self.payloads.items() if payload is not None)
        if not live:
            return
        number = data.draw(st.sampled_from(live))
        state, epoch = data.draw(st.sampled_from(self.held))
        try:
            self.stores[store].move_alias(self.name, "current", number, state.etag)
        except SecretConflictError:
            assert epoch != self.epoch
        else:
            assert epoch == self.epoch
            self.alias = number
            self.epoch += 1

    @precondition(lambda self: self.payloads)
    @rule(store=st.integers(0, 1), data=st.data())
    def destroy(self, store: int, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.payloads)))
        self.stores[store].destroy_version(self.name, number)
        self.payloads[number] = None

    @rule(store=st.integers(0, 1))
    def ensure(self, store: int) -> None:
        self.stores[store].ensure_secret(self.name)

    @invariant()
    def both_stores_show_what_was_written(self) -> None:
        for store in self.stores if hasattr(self, "name") else ():
            live = [number for number, data in self.payloads.items() if data is not None]
            assert [version.number for version in store.list_versions(self.name)] == live
            for wanted, number in (("current", self.alias), ("latest", len(self.payloads))):
                expected = self.payloads.get(number or 0)
                if expected is None:
                    with pytest.raises(SecretNotFoundError):
                        store.access(self.name, wanted)
                else:
                    assert store.access(self.name, wanted).data == expected


def test_any_order_of_calls_agrees_with_the_model(
    open_secret_store: Callable[[], SecretStore],
) -> None:
    """Whatever two stores do in whatever order, what they answer is what was written."""

    class Machine(SecretStoreMachine):
        stores = [open_secret_store() for _ in range(2)]  # noqa: RUF012 - one machine, one test

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
