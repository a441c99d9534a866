"""Stores that are closed, cancelled, interrupted or forked in the middle of something."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
import weakref
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE_SECONDS

import everwhen.aio
from everwhen import Event, EventTypes, EverwhenError, StorageError, Store, open_store
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.backends.sqlite.lock_guard import Guard
from everwhen.errors import StoreClosedError, UnsupportedError
from everwhen.vocabulary import Checkpoint


class Noted(Event):
    text: str


def test_closing_while_threads_are_busy(tmp_path: Path) -> None:
    store = open_store(tmp_path / "busy.db", events=[Noted])
    store.append("a", [Noted("x")] * 500)
    stray: list[BaseException] = []
    acknowledged = [0] * 4

    def append(index: int) -> None:
        stream = f"s-{index}"
        acknowledged[index] = store.append(stream, [Noted("x")]).versions[stream]

    def busy(index: int) -> None:
        try:
            with contextlib.suppress(StoreClosedError):
                while True:
                    if index < 2:
                        append(index)
                    else:
                        acknowledged[index] = len(list(store.read()))
        except BaseException as error:  # noqa: BLE001 (whatever it is, it is wrong)
            stray.append(error)

    threads = [threading.Thread(target=busy, args=(i,)) for i in range(4)]
    threads.append(threading.Thread(target=lambda: list(store.subscribe())))
    for thread in threads:
        thread.start()
    while not (all(acknowledged) or stray):
        time.sleep(0.001)
    store.close()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    assert stray == []
    with open_store(tmp_path / "busy.db", events=[Noted]) as store:
        assert [store.version(f"s-{i}") for i in range(2)] == acknowledged[:2]


def test_closing_wakes_those_who_wait_to_append(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "waiting.db")
    store = Store(EmbeddedBackend(engine), events=EventTypes(Noted))

    backend: Any = store.kernel.backend
    refused: list[StoreClosedError] = []

    def append() -> None:
        try:
            store.append("a", [Noted("x")])
        except StoreClosedError as error:
            refused.append(error)

    engine.lock.mutex.acquire()
    threads = [threading.Thread(target=store.close, daemon=True)]
    threads[0].start()
    while not backend._closed:
        time.sleep(0.001)
    threads += [threading.Thread(target=append, daemon=True) for _ in range(3)]
    for thread in threads[1:]:
        thread.start()
    while len(backend._appender._waiting) < 3:
        time.sleep(0.001)
    engine.lock.mutex.release()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    with open_store(tmp_path / "waiting.db", events=[Noted]) as store:
        assert store.version("a") == 3 - len(refused), "whoever got the lock first"


def test_sixty_four_threads_and_many_tasks(tmp_path: Path) -> None:
    with open_store(tmp_path / "threads.db", events=[Noted]) as store:

        def work(index: int) -> None:
            for version in range(10):
                store.append(f"t-{index}", [Noted("x")], expected=version)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        assert {info.version for info in store.streams("t")} == {10}

    async def tasks() -> None:
        async with everwhen.aio.open_store(tmp_path / "threads.db", events=[Noted]) as store:

            async def work(index: int) -> None:
                for version in range(4):
                    await store.append(f"u-{index}", [Noted("x")], expected=version)

            await asyncio.gather(*(work(i) for i in range(256)))
            assert {info.version async for info in store.streams("u")} == {4}
            assert await store.check() == []

    asyncio.run(tasks())


@pytest.mark.parametrize("location", ["memory:", "file"])
def test_cancelled_at_every_moment_nothing_hangs(tmp_path: Path, location: str) -> None:
    """Tasks are cancelled after 0, 1, 2 … turns of the loop, in appends and in transactions."""
    where = str(tmp_path / "cancelled.db") if location == "file" else location

    async def run() -> None:
        async with everwhen.aio.open_store(where, events=[Noted]) as store:

            async def keep() -> None:
                async with store.transaction() as transaction:
                    await transaction.save_checkpoint(Checkpoint("a", 1))
                    await transaction.save_checkpoint(Checkpoint("b", 2))

            async def cancelled_after(turns: int, work: Coroutine[Any, Any, object]) -> None:
                task = asyncio.ensure_future(work)
                for _ in range(turns):
                    await asyncio.sleep(0 if turns < 10 else 0.0002)
                task.cancel()
                await asyncio.wait([task])

            for turns in range(30):
                await cancelled_after(turns, store.append("a", [Noted("x")]))
                await cancelled_after(turns, keep())
                places = {c.name for c in await store.checkpoints()}
                assert places in (set(), {"a", "b"}), "a transaction is whole or not at all"
                async with store.transaction() as transaction:
                    await transaction.delete_checkpoint("a")
                    await transaction.delete_checkpoint("b")
                before = await store.version("b")
                await asyncio.wait_for(
                    store.append("b", [Noted("x")], expected=before), PATIENCE_SECONDS
                )
            assert await store.check() == []

    asyncio.run(run())


def test_waiting_for_oneself_is_refused(tmp_path: Path) -> None:
    with (
        open_store(tmp_path / "self.db", events=[Noted]) as store,
        store.transaction(),
        pytest.raises(UnsupportedError, match="inside a transaction"),
    ):
        store.append("a", [Noted("x")])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_store_is_not_taken_through_a_fork(tmp_path: Path) -> None:
    with open_store(tmp_path / "fork.db", events=[Noted]) as store:
        store.append("a", [Noted("x")])
        child = os.fork()
        if child == 0:
            code = 1
            try:
                store.append("a", [Noted("x")])
            except StorageError as error:
                code = 0 if "fork" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert store.append("a", [Noted("x")]).position == 2


def test_opening_and_closing_leaves_nothing_behind(tmp_path: Path) -> None:
    def use() -> None:
        with open_store(tmp_path / "often.db", events=[Noted]) as store:
            store.append("a", [Noted("x")])
            assert list(store.read("a"))

    async def use_async() -> None:
        async with everwhen.aio.open_store(tmp_path / "often.db", events=[Noted]) as store:
            await store.append("a", [Noted("x")])

    use()
    asyncio.run(use_async())
    files, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    for _ in range(60):
        use()
    for _ in range(10):
        asyncio.run(use_async())
    with pytest.raises(EverwhenError):
        open_store(__file__)
    assert len(list(Path("/proc/self/fd").iterdir())) <= files
    until = time.monotonic() + PATIENCE_SECONDS
    while threading.active_count() > threads:  # a pool's threads end in their own time
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_store_that_is_let_go_of_is_closed_at_once(tmp_path: Path) -> None:
    """Nothing of an engine keeps it alive: no cycle that waits for the collector, and no watch."""
    engine = SqliteEngine(tmp_path / "store.db")
    engine.write([])
    engine.watch()
    engine.head()
    with engine.view() as view, engine.transaction() as transaction:
        assert view.checkpoint("none") is transaction.checkpoint("none") is None
    del view, transaction
    assert list(engine.check()) == []
    hold, gone = engine._hold, weakref.ref(engine)
    assert hold.is_held
    gc.disable()
    try:
        del engine
        assert gone() is None
        assert not hold.is_held
    finally:
        gc.enable()


@pytest.mark.parametrize("moment", ["reserve", "take", "let_go", "close"])
@pytest.mark.parametrize("what", ["engine", "connection"])
def test_what_is_forgotten_while_the_guards_are_locked_is_closed_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, moment: str
) -> None:
    """The collector calls ``__del__`` anywhere: it must not wait for its own thread."""
    open_store(tmp_path / "other.db").close()
    engine = SqliteEngine(tmp_path / "forgotten.db")
    engine.write([])
    hold: Any = engine._hold
    forgotten: list[object] = [engine]
    if what == "connection":
        forgotten = [connection := engine.sql_connection()]
        hold = connection._held
        engine.close()
        del connection
    del engine
    real = getattr(Guard, moment)
    still_held: list[bool] = []

    def forgetting(guard: Guard, *arguments: object) -> object:
        forgotten.clear()
        still_held.append(hold.is_held)
        return real(guard, *arguments)

    monkeypatch.setattr(Guard, moment, forgetting)
    with open_store(tmp_path / "other.db", events=[Noted]) as store:
        store.append("a", [Noted("x")])
    assert still_held[0]
    assert not hold.is_held
    with open_store(tmp_path / "forgotten.db", events=[Noted]) as store:
        assert store.append("a", [Noted("x")]).position == 1
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith(("-wal", "-shm"))]
