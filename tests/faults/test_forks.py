"""A fork while other threads are busy: the child is told at once, and can open what it needs."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import everwhen.aio
from everwhen import Event, KeyFile, Query, StorageError, Vault, open_store
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.backends.sqlite.lock_guard import Guard
from everwhen.errors import VaultError
from everwhen.store._sync.store import Store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


FORKS = 6


class Noted(Event):
    text: str


def in_child(work: Callable[[], str]) -> str:
    """What the work says in a child, or how it failed there."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads beside a fork: that is it
        child = os.fork()
    if not child:
        try:
            said = work()
        except BaseException as error:  # noqa: BLE001
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read().decode()
    os.waitpid(child, 0)
    return said


class Busy:
    """Threads that append and read as long as it is entered."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stop = threading.Event()
        self.acknowledged = 0
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, args=(i,)) for i in range(4)]

    def _work(self, index: int) -> None:
        try:
            while not self._stop.is_set():
                if index % 2:
                    self.acknowledged += len(list(self._store.read(Query().up_to(3)))) > 0
                else:
                    self._store.append(f"busy-{index}", [Noted("x")])
        except BaseException as failure:  # noqa: BLE001
            self.failures.append(failure)

    def __enter__(self) -> Busy:
        for thread in self._threads:
            thread.start()
        while not self.acknowledged:
            self._stop.wait(0.001)
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert not self.failures


def test_the_child_is_told_at_once_by_every_call(tmp_path: Path) -> None:
    with open_store(tmp_path / "f.db", events=[Noted]) as store:
        store.append("a", [Noted("x")])
        calls: list[Callable[[], object]] = [
            lambda: store.append("a", [Noted("y")]),
            lambda: list(store.read()),
            store.head,
            store.check,
            lambda: store.create_branch("b"),
            lambda: store.kernel.backend.transact(lambda _: None),
            lambda: store.transaction().__enter__(),
            lambda: store.kernel.backend.view(lambda _: None),
            store.kernel.backend.purge,
        ]

        def work() -> str:
            for call in calls:
                with pytest.raises(StorageError, match="opened by process"):
                    call()
            store.close()
            gc.collect()
            return "told"

        with Busy(store):
            for _ in range(FORKS):
                assert in_child(work) == "told"
        assert store.check() == []


def test_a_store_that_is_yet_to_be_closed_is_torn_in_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was forgotten where it couldn't be closed: the child can't trust what SQLite remembers."""
    open_store(tmp_path / "other.db").close()
    forgotten = [SqliteEngine(tmp_path / "f.db")]
    hold = forgotten[0]._hold
    reserve = Guard.reserve
    said: list[str] = []

    def forking(guard: Guard, path: str, by: object) -> bool:
        forgotten.clear()
        if not said:
            said.append("")
            said[0] = in_child(lambda: str(open_store(tmp_path / "f.db")))
        return reserve(guard, path, by)

    monkeypatch.setattr(Guard, "reserve", forking)
    with open_store(tmp_path / "other.db", events=[Noted]):
        assert not hold.is_held
    assert "another thread was using this store when the process was forked" in said[0]
    with open_store(tmp_path / "f.db", events=[Noted]) as store:
        assert store.append("a", [Noted("x")]).position == 1


def test_a_child_opens_the_store_anew(tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    with open_store(path, events=[Noted]) as store:
        store.append("a", [Noted("x")])

        def work() -> str:
            with open_store(path, events=[Noted], busy_timeout=60) as mine:
                version = mine.append("child", [Noted("y")]).versions["child"]
                assert len(list(mine.read("child"))) == version
            gc.collect()
            return str(version)

        with Busy(store):
            assert [in_child(work) for _ in range(FORKS)] == [str(n + 1) for n in range(FORKS)]
        assert path.with_name("f.db-wal").exists()
        store.append("a", [Noted("z")], expected=1)
        assert store.check() == []


def test_a_fork_within_a_transaction_leaves_the_child_out(tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    with open_store(path, events=[Noted]) as store:
        with store.transaction() as transaction:
            transaction.execute("CREATE TABLE mine (x)")
            said = in_child(lambda: str(open_store(path)))
            transaction.execute("INSERT INTO mine VALUES (1)")
        assert said.startswith("StorageError")
        assert "start the process anew" in said
        with store.transaction() as transaction:
            assert transaction.execute("SELECT x FROM mine") == [(1,)]


def test_a_memory_store_is_a_copy_in_the_child() -> None:
    with open_store("memory:", events=[Noted]) as store:

        def work() -> str:
            count = len(list(store.read("a")))
            store.append("a", [Noted("y")], expected=count)
            return "copied"

        with Busy(store):
            assert {in_child(work) for _ in range(FORKS)} == {"copied"}


def test_an_async_store_in_the_child(tmp_path: Path) -> None:
    async def opened() -> everwhen.aio.Store:
        return await everwhen.aio.open_store(tmp_path / "f.db", events=[Noted])

    store = asyncio.run(opened())
    asyncio.run(store.append("a", [Noted("x")]))

    def work() -> str:
        async def told() -> str:
            for call in (store.append("a", [Noted("y")]), store.head(), store.create_branch("b")):
                with pytest.raises(StorageError, match="opened by process"):
                    await call
            await store.close()
            return "told"

        return asyncio.run(told())

    assert in_child(work) == "told"
    asyncio.run(store.append("a", [Noted("z")], expected=1))
    asyncio.run(store.close())


def test_a_vault_in_the_child(tmp_path: Path) -> None:
    keys = KeyFile.create(tmp_path / "keys")
    with Vault(tmp_path / "v.vault", keys) as vault:
        stop = threading.Event()

        def busy() -> None:
            number = 0
            while not stop.is_set():
                vault.newest(f"s/{number}")
                stop.wait(0.001)
                number += 1

        def work() -> str:
            with pytest.raises(VaultError, match="opened by process"):
                vault.subjects()
            vault.close()
            with Vault(tmp_path / "v.vault", keys, busy_timeout=60) as mine:
                mine.newest("child")
            return "told"

        thread = threading.Thread(target=busy)
        thread.start()
        try:
            assert {in_child(work) for _ in range(4)} == {"told"}
        finally:
            stop.set()
            thread.join()
        assert "child" in vault.subjects()
