"""Closing and cancelling in the middle of things, and transactions that end badly."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.faults.faults_ledger import Entry, count_up, entries, faults_in
from tests.patience import PATIENCE_SECONDS

from everwhen import Condition, ConditionError, Query, StorageError, Store, aio, open_store
from everwhen.errors import StoreClosedError, UnsupportedError
from everwhen.vocabulary import Checkpoint

"""Seconds after which something counts as hanging."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def _opened(path: Path) -> Store:
    return open_store(path, events=[Entry])


# Closing


async def test_close_while_tasks_work(path: Path) -> None:
    acknowledged: list[str] = []
    for life in range(6):
        store = await aio.open_store(path, events=[Entry])
        await store.append("a-0", entries(f"first{life}", 1))

        async def append(task: int, store: aio.Store = store, life: int = life) -> None:
            for number in range(1_000_000):
                key = f"{life}.{task}.{number}"
                await store.append(f"a-{task}", entries(key, 2))
                acknowledged.append(key)

        async def read(_: int, store: aio.Store = store) -> None:
            while True:
                assert [e async for e in store.read(Query().limit(50))]

        async def follow(_: int, store: aio.Store = store) -> None:
            positions = [event.position async for event in store.subscribe()]
            assert positions == list(range(1, len(positions) + 1))

        work: list[Callable[[int], Coroutine[Any, Any, None]]]
        work = [append, append, append, read, read, follow, follow]
        tasks = [asyncio.ensure_future(w(n)) for n, w in enumerate(work)]
        await asyncio.sleep(0.03 + 0.02 * life)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await store.close()
            await store.close()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes[:5]} == {StoreClosedError}
        assert outcomes[5:] == [None, None], "a subscription just ends"
    with _opened(path) as again:
        assert faults_in(again, acknowledged, 0) == []


def test_a_closed_store_says_so(path: Path) -> None:
    store = _opened(path)
    store.append("a-1", entries("k", 1))
    following = store.subscribe()
    assert next(following).position == 1
    store.close()
    assert list(following) == []
    calls: list[Callable[[], object]] = [
        store.head,
        store.check,
        store.checkpoints,
        lambda: list(store.read()),
        lambda: store.append("a-1", entries("k", 1)),
        lambda: store.transaction().__enter__(),
    ]
    for call in calls:
        with pytest.raises(StoreClosedError):
            call()


# Cancelling


async def _cancelled_everywhere(make: Callable[[int], Awaitable[Any]]) -> int:
    """Run it again and again, cancelled a little later each time; how often it was cut off.

    It goes on until some calls were cut off and some had the time to finish, however slow the
    machine is.
    """
    cut_off = finished = 0
    delay = 0.0
    async with asyncio.timeout(PATIENCE_SECONDS):
        for turn in itertools.count():
            if turn >= 400 and cut_off > 10 and finished > 10:
                break
            task = asyncio.ensure_future(make(turn))
            for _ in range(turn % 40):
                await asyncio.sleep(0)
            if turn % 40 == 39:
                delay = delay * 1.3 + 0.0001
            if delay:
                await asyncio.sleep(delay)
            task.cancel()
            try:
                await task
                finished += 1
            except asyncio.CancelledError:
                cut_off += 1
    return cut_off


async def test_cancelling_an_append(path: Path) -> None:
    done: list[str] = []
    async with aio.open_store(path, events=[Entry]) as store:

        async def append(turn: int) -> None:
            await store.append("a-1", entries(f"k{turn}", 2))
            done.append(f"k{turn}")

        assert await _cancelled_everywhere(append) > 10
        async with asyncio.timeout(PATIENCE_SECONDS):
            await store.append("a-1", entries("after", 1))
    with _opened(path) as again:
        assert faults_in(again, [*done, "after"], 0) == []


async def test_cancelling_a_transaction(path: Path) -> None:
    done = [0]
    async with aio.open_store(path, events=[Entry]) as store:
        async with store.transaction() as transaction:
            await transaction.execute("CREATE TABLE tally (name TEXT PRIMARY KEY, n INTEGER)")
            await transaction.execute("INSERT INTO tally VALUES ('all', 0)")

        async def count(_: int) -> None:
            async with store.transaction() as transaction:
                await transaction.execute("UPDATE tally SET n = n + 1")
                ((n,),) = await transaction.execute("SELECT n FROM tally")
                await transaction.save_checkpoint(Checkpoint("tally", n))
            done.append(n)

        assert await _cancelled_everywhere(count) > 10
        async with asyncio.timeout(PATIENCE_SECONDS):
            await count(0)
            await store.append("a-1", entries("after", 1))
    with _opened(path) as again:
        assert faults_in(again, ["after"], max(done)) == []


async def test_cancelling_while_the_write_lock_is_taken(path: Path) -> None:
    async with aio.open_store(path, events=[Entry]) as store:

        async def transact() -> None:
            async with store.transaction() as transaction:
                await transaction.save_checkpoint(Checkpoint("waited", 1))

        for turn in range(5):
            async with store.transaction() as transaction:
                await transaction.save_checkpoint(Checkpoint("held", turn))
                waiting: list[asyncio.Future[Any]] = [
                    asyncio.ensure_future(store.append("a-1", entries(f"k{turn}", 1))),
                    asyncio.ensure_future(transact()),
                    asyncio.ensure_future(transact()),
                ]
                await asyncio.sleep(0.01)
                for task in waiting:
                    task.cancel()
                outcomes = await asyncio.gather(*waiting, return_exceptions=True)
                assert {type(o) for o in outcomes} == {asyncio.CancelledError}
        async with asyncio.timeout(PATIENCE_SECONDS):
            await transact()
            await store.append("a-1", entries("after", 1))
        assert await store.checkpoint("held") == Checkpoint("held", 4)
        assert await store.check() == []


async def test_cancelling_a_subscription(path: Path) -> None:
    async with aio.open_store(path, events=[Entry]) as store:
        await store.append("a-1", entries("k", 3))

        async def follow(turn: int) -> None:
            async with store.subscribe() as following:
                async for event in following:
                    if turn > 390 and event.version == 3:
                        return

        assert await _cancelled_everywhere(follow) > 10
        assert (await store.append("a-1", entries("after", 1))).position == 4


# Transactions


def test_an_exception_rolls_a_transaction_back(path: Path) -> None:
    with _opened(path) as store:
        n = count_up(store)
        with pytest.raises(KeyError), store.transaction() as transaction:  # noqa: PT012  all of it
            transaction.execute("UPDATE tally SET n = 77")
            transaction.save_checkpoint(Checkpoint("tally", 77))
            raise KeyError
        with pytest.raises(StorageError, match="fix it"), store.transaction() as transaction:  # noqa: PT012  all of it
            transaction.execute("UPDATE tally SET n = 78")
            transaction.execute("UPDATE nothing SET n = 78")
        store.append("a-1", entries("k", 1))
        assert faults_in(store, ["k"], n) == []
        assert count_up(store) == n + 1


async def test_what_would_wait_for_itself_is_refused_async(path: Path) -> None:
    async with aio.open_store(path, events=[Entry]) as store, asyncio.timeout(PATIENCE_SECONDS):
        async with store.transaction():
            with pytest.raises(UnsupportedError):
                await store.append("a-1", entries("k", 1))
            with pytest.raises(UnsupportedError):
                await store.transaction().__aenter__()
            with pytest.raises(UnsupportedError):
                await store.close()
        assert (await store.append("a-1", entries("k", 1))).position == 1


def test_a_transaction_that_ends_itself_by_sql(path: Path) -> None:
    with _opened(path) as store:
        for statement in ("COMMIT", "ROLLBACK"):
            with pytest.raises(StorageError), store.transaction() as transaction:
                transaction.execute(statement)
        assert store.append("a-1", entries("k", 1)).position == 1
        assert faults_in(store, ["k"], count_up(store)) == []


def test_a_kept_refusal_holds_nothing_up(path: Path) -> None:
    """The error's traceback must not keep a statement of the writing connection open."""
    with _opened(path) as store, _opened(path) as other:
        store.append("a-1", entries("k", 3))
        for turn in range(3):
            with pytest.raises(ConditionError) as kept:
                store.append("a-2", entries("x", 1), condition=Condition(Query(), 0))
            other.append("a-1", entries(f"other{turn}", 1))
            store.append("a-1", entries(f"after{turn}", 1))
            assert kept.value.position == 1
