"""Cancelling a task in the middle of a call: async only, so this has no sync twin."""

from __future__ import annotations

import asyncio
import contextlib

from everwhen.testing._async.bench import Bench, events_of
from everwhen.testing._async.concurrency import pause, within
from everwhen.testing.checks import equal, true
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.specimens import notes
from everwhen.vocabulary.contract import Checkpoint, Receipt


async def _cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()

    async def end() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await task

    await within(end)


@promise(Guarantee.SUBSCRIPTIONS)
async def a_cancelled_subscriber_leaves_cleanly_and_can_go_on(bench: Bench) -> None:
    store = await bench.store()
    await store.append("a", notes(2))
    subscription = store.subscribe()
    seen: list[int] = []

    async def follow() -> None:
        async for event in subscription:
            seen.append(event.position)  # noqa: PERF401 (cancelled half-way, the list must stay)

    for _ in range(6):
        task: asyncio.Task[object] = asyncio.create_task(follow())
        await asyncio.sleep(0.01)
        await store.append("a", notes(2))
        await _cancelled(task)
        true(task.cancelled(), "the cancellation comes through")
    task = asyncio.create_task(follow())
    wanted = [e.position for e in await events_of(store)]

    async def all_seen() -> None:
        while len(seen) < len(wanted):
            await pause(0.01)

    await within(all_seen)
    await _cancelled(task)
    equal(seen, wanted, "each event once, though the reader was cancelled in between")


@promise(Guarantee.ATOMIC)
async def a_cancelled_transaction_is_rolled_back(bench: Bench) -> None:
    store = await bench.store()

    async def hold() -> None:
        async with store.transaction() as transaction:
            await transaction.save_checkpoint(Checkpoint("a", 1))
            await asyncio.sleep(60)

    task: asyncio.Task[object] = asyncio.create_task(hold())
    await asyncio.sleep(0.05)
    waiting = [asyncio.create_task(hold()) for _ in range(2)]
    await asyncio.sleep(0.02)
    for one in (*waiting, task):
        await _cancelled(one)
    equal(await store.checkpoint("a"), None, "nothing of it stays")

    async def append() -> Receipt:
        return await store.append("a", notes(1))

    await within(append)
    async with store.transaction() as transaction:
        await transaction.save_checkpoint(Checkpoint("a", 2))
    equal(await store.checkpoint("a"), Checkpoint("a", 2), "and the store goes on")


@promise(Guarantee.ATOMIC)
async def a_cancelled_append_leaves_a_whole_commit_or_none(bench: Bench) -> None:
    store = await bench.store()
    for number in range(12):
        task: asyncio.Task[object] = asyncio.create_task(store.append("a", notes(3)))
        await asyncio.sleep(0.0004 * number)
        await _cancelled(task)
    receipt = await store.append("a", notes(3))
    recorded = await events_of(store, "a")
    equal(len(recorded) % 3, 0, "whole commits only")
    equal([e.version for e in recorded], list(range(1, len(recorded) + 1)), "without holes")
    equal(receipt.versions, {"a": len(recorded)}, "the store goes on")
