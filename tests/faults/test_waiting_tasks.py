"""Tasks that wait for a lock: they take no thread away from the one that they wait for."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE_SECONDS

from everwhen import Event
from everwhen.aio import Store, open_store
from everwhen.vocabulary import Checkpoint


class Noted(Event):
    text: str


def inner(store: Store) -> Any:
    """The backend around the engine, with what only it has."""
    return store.kernel.backend


async def waiting(store: Store, count: int) -> None:
    """Until so many tasks are in the lock's line."""
    from everwhen.backends._async.concurrency import _Line

    line = _Line.of(inner(store)._engine.lock)
    while len(line._waiting) < count:  # noqa: ASYNC110  no event tells
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("where", ["sqlite", "memory"])
async def test_waiting_tasks_take_up_no_shared_pool(tmp_path: Path, where: str) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    path = f"sqlite:{tmp_path / 'w.db'}" if where == "sqlite" else "memory:"
    async with asyncio.timeout(PATIENCE_SECONDS), open_store(path, events=[Noted]) as store:
        await store.append("a", [Noted("x")])
        async with store.transaction() as transaction:
            tasks = [asyncio.ensure_future(store.create_branch(f"b-{n}")) for n in range(40)]
            await waiting(store, 40)
            await asyncio.to_thread(time.sleep, 0.01)
            await transaction.save_checkpoint(Checkpoint("c", 1, b""))
        for branch in await asyncio.gather(*tasks):
            await branch.close()
        assert len(await store.branches()) == 40


async def test_closing_waits_for_the_last_write_without_a_pool(tmp_path: Path) -> None:
    pool = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(pool)
    stop = threading.Event()
    blocked = asyncio.get_running_loop().run_in_executor(None, stop.wait)
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with open_store(tmp_path / "w.db", events=[Noted]) as store:
            await store.append("a", [Noted("x")])
    stop.set()
    await blocked


async def test_waiting_tasks_are_served_in_order_and_may_be_cancelled(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        open_store(tmp_path / "w.db", events=[Noted]) as store,
    ):
        served: list[int] = []

        async def work(number: int) -> None:
            async with store.transaction():
                served.append(number)

        async with store.transaction():
            tasks = []
            for number in range(20):
                tasks.append(asyncio.create_task(work(number)))
                await waiting(store, number + 1)
            for task in tasks[::2]:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert served == list(range(1, 20, 2))
        await store.append("a", [Noted("x")])
        assert not inner(store)._engine.lock.mutex.locked()


async def test_a_transaction_gets_its_turn_beside_busy_appends(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        open_store(tmp_path / "w.db", events=[Noted]) as store,
    ):
        over = False

        async def busy(stream: str) -> None:
            while not over:
                await store.append(stream, [Noted("x")])

        tasks = [asyncio.create_task(busy(f"s-{n}")) for n in range(8)]
        for number in range(20):
            async with store.transaction() as transaction:
                await transaction.save_checkpoint(Checkpoint("c", number, b""))
        over = True
        await asyncio.gather(*tasks)


def test_tasks_of_a_loop_that_ends_leave_the_lock_to_others(tmp_path: Path) -> None:
    async def opened() -> Store:
        return await open_store(tmp_path / "w.db", events=[Noted])

    store = asyncio.run(opened())

    async def breaks_off() -> None:
        async with store.transaction():
            tasks = [asyncio.ensure_future(store.create_branch(f"b-{n}")) for n in range(5)]
            await waiting(store, 5)
            del tasks

    asyncio.run(breaks_off())  # cancels what is left, and closes its loop
    asyncio.run(asyncio.wait_for(store.append("a", [Noted("x")]), PATIENCE_SECONDS))
    asyncio.run(store.close())
