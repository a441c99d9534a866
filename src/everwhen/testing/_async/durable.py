"""Guarantee 2: what was acknowledged is there when the store is opened again."""

from __future__ import annotations

from uuid import UUID

from everwhen.codec.commits import Commit, Write
from everwhen.testing._async.bench import Bench, events_of
from everwhen.testing.checks import equal, raises, true
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.specimens import Deposited, Noted, notes
from everwhen.vocabulary.contract import Checkpoint, Condition, Snapshot
from everwhen.vocabulary.errors import ConditionError, ConflictError
from everwhen.vocabulary.metadata import CommitMetadata
from everwhen.vocabulary.query import Query


@promise(Guarantee.DURABLE, "durable")
async def everything_is_there_after_reopening(bench: Bench) -> None:
    store = await bench.store()
    await store.append("a-1", [Deposited(1, 5), Noted("x")], metadata=CommitMetadata(user_id="u"))
    bench.clock.advance(1)
    await store.append("a-2", notes(1_200))
    async with store.transaction() as transaction:
        await transaction.save_checkpoint(Checkpoint("reader", 7, b"state"))
        await transaction.save_snapshot(Snapshot("a-1", 2, "fold", 1, b"\x00\xff"))
    before = await events_of(store)
    head = await store.head()
    streams = [info async for info in store.streams()]
    store = await bench.reopened()
    equal(await events_of(store), before, "the same events")
    equal(
        [(e.event, e.metadata) for e in await events_of(store, "a-1")],
        [(e.event, e.metadata) for e in before[:2]],
        "with the same content and metadata",
    )
    equal(await store.head(), head, "the same head")
    equal([info async for info in store.streams()], streams, "the same streams")
    equal(await store.checkpoint("reader"), Checkpoint("reader", 7, b"state"), "checkpoints")
    equal(await store.snapshots("a-1"), [Snapshot("a-1", 2, "fold", 1, b"\x00\xff")], "snapshots")
    equal(await store.check(), [], "and no fault is found")


@promise(Guarantee.DURABLE, "durable")
async def beliefs_hold_across_reopening(bench: Bench) -> None:
    store = await bench.store()
    commit = Commit((Write("a", [Deposited(1, 1)], 0),), id=UUID(int=1))
    first = await store.commit(commit)
    store = await bench.reopened()
    with raises(ConflictError, "a belief that was wrong before the store was opened"):
        await store.append("a", notes(1), expected=0)
    with raises(ConditionError, "a condition broken before the store was opened"):
        await store.append("b", notes(1), condition=Condition(Query().tags("account:1"), 0))
    again = await store.commit(commit)
    true(again.repeated, "a commit id is known after reopening")
    equal(again.position, first.position, "with its first result")
    receipt = await store.append("a", notes(1), expected=1)
    true(receipt.position > first.position, "positions go on where they were")


@promise(Guarantee.DURABLE, "durable")
async def time_goes_on_after_reopening_with_a_clock_set_back(bench: Bench) -> None:
    store = await bench.store()
    first = await store.append("a", notes(1))
    bench.clock.advance(-3_600)
    store = await bench.reopened()
    second = await store.append("a", notes(1))
    true(second.recorded_at >= first.recorded_at, "recorded_at doesn't step back")


@promise(Guarantee.DURABLE)
async def closing_twice_is_harmless(bench: Bench) -> None:
    store = await bench.store()
    await store.append("a", notes(1))
    await store.close()
    await store.close()
