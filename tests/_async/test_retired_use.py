"""What is done with a store of which the beginning was retired, beside reading it."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest

from everwhen.aio import Event, Query, RecordedEvent, Store, open_store
from everwhen.backends._async.restore import restore_store
from everwhen.errors import RetiredError
from everwhen.exchange.aio import CloudEvents, Xes, export_events, import_events
from everwhen.projections import TableProjection, Tables
from everwhen.projections.aio import ProjectionRunner, check_deep
from everwhen.tiers._async.retiring import retired, surveyed
from everwhen.vocabulary.contract import Seal, SegmentSize

SIZE = SegmentSize(slices=10, frame=4, frames=2)


class Paid(Event):
    amount: int


async def retire_some(store: Store, up_to: int = 20) -> None:
    backend = store.kernel.backend
    while await backend.move(Seal(up_to, SIZE)) is not None:
        pass
    await retired(store, *await surveyed(store, up_to))


async def filled(path: Path | str) -> Store:
    """A store of 40 payments, of which the first 20 are retired, and the record of that."""
    store = await open_store(path, events=[Paid])
    for number in range(40):
        await store.append(f"acct-{number % 4}", [Paid(number)])
    await retire_some(store)
    return store


def total(of: Query | None = None) -> TableProjection:
    projection = TableProjection("total", ["CREATE TABLE {paid} (amount INTEGER)"], of=of)

    @projection.on(Paid)
    def _(tables: Tables, event: RecordedEvent[Paid]) -> None:
        tables.execute("INSERT INTO {paid} VALUES (?)", (event.event.amount,))

    return projection


async def test_a_projection_says_that_it_needs_them_or_does_without(tmp_path: Path) -> None:
    async with await filled(tmp_path / "s.db") as store:
        runner = ProjectionRunner(store, [total()])
        with pytest.raises(RetiredError) as caught:
            await runner.catch_up()
        await runner.close()
        assert "needed for total" in caught.value.__notes__[0]
        what_is_left = total(Query().skipping_retired())
        runner = ProjectionRunner(store, [what_is_left])
        await runner.catch_up()
        (status,) = await runner.status()
        assert (status.lag, status.error) == (0, None)
        await runner.close()
        (left_out,) = await check_deep(store, of=[what_is_left])
        assert (left_out.is_fault, "were retired" in left_out.what) == (False, True)


async def test_one_that_has_taken_them_goes_on(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db", events=[Paid]) as store:
        for number in range(40):
            await store.append("acct", [Paid(number)])
        runner = ProjectionRunner(store, [total()])
        await runner.catch_up()
        await retire_some(store)
        await store.append("acct", [Paid(1)])
        await runner.catch_up()
        (status,) = await runner.status()
        assert (status.lag, status.error) == (0, None)
        await runner.close()
        (left_out,) = await check_deep(store, of=[total()])
        assert (left_out.is_fault, "were retired" in left_out.what) == (False, True)


async def test_exports_refuse_unless_they_are_to_leave_it_out(
    location: str, tmp_path: Path
) -> None:
    async with await filled(location) as store:
        for form in (CloudEvents(), Xes("acct")):
            with pytest.raises(RetiredError):
                await export_events(store, tmp_path / "out", form)
            assert not (tmp_path / "out").exists()
            left = BytesIO()
            query = Query().category("acct").skipping_retired()
            report = await export_events(store, left, form, query=query)
            assert report.events == 20
        async with open_store("memory:") as other:
            left = BytesIO()
            await export_events(store, left, CloudEvents(), query=Query().skipping_retired())
            left.seek(0)
            assert (await import_events(other, left, CloudEvents())).events == 21
            assert await other.check() == []


async def test_a_backup_is_as_it_was(tmp_path: Path) -> None:
    async with await filled(tmp_path / "s.db") as store:
        await store.backup(tmp_path / "copy.db")
        left = [event async for event in store.read(Query().skipping_retired())]
    await restore_store(tmp_path / "copy.db", tmp_path / "back.db")
    async with open_store(tmp_path / "back.db", events=[Paid]) as back:
        assert [event async for event in back.read(Query().skipping_retired())] == left
        with pytest.raises(RetiredError):
            [event async for event in back.read()]
        assert await back.check() == []


async def test_a_branch_begins_after_it_(location: str) -> None:
    async with await filled(location) as store:
        with pytest.raises(RetiredError):
            await store.create_branch("early", 10)
        async with await store.create_branch("late", 30) as branch:
            await branch.append("own", [Paid(1)])
            assert [e.position async for e in branch.read("own")] == [31]
            with pytest.raises(RetiredError):
                [event async for event in branch.read()]
            left = [e.position async for e in branch.read(Query().skipping_retired())]
            assert left == list(range(21, 32))
            assert await branch.check() == []
