"""History is moved in the background: one mover at a time, whatever happens to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from everwhen.aio import Store, UnknownEvent, open_store
from everwhen.backends._async.concurrency import sleep
from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.errors import (
    BusyError,
    CorruptStoreError,
    DeclarationError,
    StorageFullError,
    UnsupportedError,
)
from everwhen.tiers import HistoryPolicy, MovedSegment, Segment, SegmentSize
from everwhen.tiers._async.mover_lease import MoverLease
from everwhen.tiers.aio import HistoryManager
from everwhen.tiers.mover_records import MOVER, mover_record_in
from everwhen.vocabulary.contract import Checkpoint, Move

ALL = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
OFTEN = timedelta(milliseconds=20)


async def some(store: Store, count: int = 5) -> None:
    for _ in range(count):
        await store.append("order-1", [UnknownEvent("Paid", {})])


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await sleep(0.005)


async def sealed_up_to(store: Store, position: int) -> None:
    while (await HistoryManager(store, ALL).status()).sealed < position:
        await sleep(0.005)


async def test_what_is_written_is_sealed_again_and_again(location: str) -> None:
    seen: list[MovedSegment] = []
    async with await open_store(location) as store:
        manager = HistoryManager(store, ALL)
        assert (await manager.status()).last_run is None
        await some(store)
        async with manager.in_background(OFTEN, progress=seen.append) as mover:
            assert "in the background" in repr(mover)
            for goal in (5, 10, 15):
                await sealed_up_to(store, goal)
                await some(store)
        assert "closed" in repr(mover)
        await mover.close()
        assert [moved.segment.first for moved in seen][:2] == [1, 6]
        status = await manager.status()
        assert status.last_error is None
        assert status.last_run is not None
        assert abs(datetime.now(UTC) - status.last_run) < timedelta(hours=1)
        assert mover_record_in(await store.checkpoint(MOVER)).owner is None
        assert await store.check() == []


async def test_it_ends_with_its_store_and_between_two_segments(
    location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HistoryPolicy, "segment_size", SegmentSize(slices=2))
    store = await open_store(location)
    await some(store, 40)
    seen: list[MovedSegment] = []
    mover = HistoryManager(store, ALL).in_background(OFTEN, progress=seen.append)
    async with mover:
        await until(lambda: bool(seen))
    assert mover_record_in(await store.checkpoint(MOVER)).owner is None
    async with HistoryManager(store, ALL).in_background(OFTEN):
        await store.close()


async def test_two_movers_take_turns(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is ever stopped by the other: no step of theirs finds another's token."""
    monkeypatch.setattr(HistoryPolicy, "segment_size", SegmentSize(slices=3))
    stopped: list[BusyError] = []
    move = EmbeddedBackend.move

    async def moving(self: EmbeddedBackend, wanted: Move) -> Segment | None:
        try:
            return await move(self, wanted)
        except BusyError as error:
            stopped.append(error)
            raise

    monkeypatch.setattr(EmbeddedBackend, "move", moving)
    by: dict[str, list[int]] = {"one": [], "two": []}
    async with (
        await open_store(location) as one,
        await open_store(location) as two,
    ):
        await some(one, 30)
        async with (
            HistoryManager(one, ALL).in_background(
                OFTEN, progress=lambda made: by["one"].append(made.segment.first)
            ),
            HistoryManager(two, ALL).in_background(
                OFTEN, progress=lambda made: by["two"].append(made.segment.first)
            ),
        ):
            for goal in range(30, 300, 9):
                await sealed_up_to(one, goal)
                await some(two, 9)
        assert stopped == []
        firsts = [segment.first for segment in await one.kernel.backend.segments()]
        assert sorted([*by["one"], *by["two"]]) == firsts
        assert await one.check() == []


async def test_an_explicit_move_works_at_once_and_the_background_waits(location: str) -> None:
    async with await open_store(location) as store:
        manager = HistoryManager(store, ALL)
        await some(store)
        held = MoverLease(store, 3_600.0)  # somebody who has died with it
        assert await held.take(by_force=False)
        seen: list[MovedSegment] = []
        async with manager.in_background(OFTEN, progress=seen.append):
            await sleep(0.1)
            assert seen == []
            assert [moved.segment.last for moved in await manager.age()] == [5]
            await some(store)
            await until(lambda: bool(seen))  # for the explicit one has given it back
        with pytest.raises(BusyError, match="another process moves"):
            await held.renew()


async def test_who_was_killed_is_followed_once_its_lease_is_over(location: str) -> None:
    async with await open_store(location) as store:
        await some(store)
        dead = MoverLease(store, 0.5)
        assert await dead.take(by_force=False)
        async with HistoryManager(store, ALL).in_background(timedelta(hours=1), lease=0.4):
            await sealed_up_to(store, 5)


async def test_what_fails_is_kept_logged_and_tried_again(
    location: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = StorageFullError("s.db: no space left to write")
    failures = [full, full, CorruptStoreError("s.db: the file is damaged")]
    move = EmbeddedBackend.move

    async def moving(self: EmbeddedBackend, wanted: Move) -> Segment | None:
        if failures:
            raise failures[0]
        return await move(self, wanted)

    monkeypatch.setattr(EmbeddedBackend, "move", moving)
    async with (
        await open_store(location) as store,
        await open_store(location, read_only=True) as elsewhere,
    ):
        await some(store)
        async with HistoryManager(store, ALL).in_background(OFTEN):
            while failures:
                due = failures.pop(0)
                failures.insert(0, due)
                while (await HistoryManager(elsewhere, ALL).status()).last_error != (
                    f"{type(due).__name__}: {due}"
                ):
                    await sleep(0.005)
                failures.pop(0)
            await sealed_up_to(store, 5)
            while (await HistoryManager(elsewhere, ALL).status()).last_error is not None:
                await sleep(0.005)
        assert "no space left to write" in caplog.text
        failures.append(full)
        with pytest.raises(StorageFullError):
            await HistoryManager(store, ALL).age()
        status = await HistoryManager(elsewhere, ALL).status()
        assert status.last_error == f"StorageFullError: {full}"
        assert mover_record_in(await store.checkpoint(MOVER)).owner is None


async def test_damaged_history_is_told_and_the_application_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.db"
    async with await open_store(path) as store:
        await some(store)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE slices SET body = X'00' WHERE position = 3")
    connection.close()
    async with await open_store(path) as store:
        async with HistoryManager(store, ALL).in_background(OFTEN):
            while (await HistoryManager(store, ALL).status()).last_error is None:
                await sleep(0.005)
            await some(store)
        status = await HistoryManager(store, ALL).status()
        assert status.sealed == 0
        assert (status.last_error or "").startswith("CorruptStoreError: ")
        assert "history isn't moved" in caplog.text


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b'{"owner": 1}', b'{"ran_at": 9e99}', b'{"ran_at": 99999999999999999999}'],
)
async def test_a_damaged_record_holds_nobody_up(location: str, data: bytes) -> None:
    async with await open_store(location) as store:
        await some(store)
        async with store.transaction() as transaction:
            await transaction.save_checkpoint(Checkpoint(MOVER, 0, data))
        manager = HistoryManager(store, ALL)
        assert (await manager.status()).last_run is None
        async with manager.in_background(OFTEN):
            while (await manager.status()).last_run is None:
                await sleep(0.005)
        assert (await manager.status()).sealed == 5


@pytest.mark.parametrize(
    ("every", "more"),
    [(timedelta(), {}), (-OFTEN, {}), (OFTEN, {"lease": 0}), (OFTEN, {"lease": 1e9})],
)
async def test_durations_that_make_no_sense(
    location: str, every: timedelta, more: dict[str, Any]
) -> None:
    async with await open_store(location) as store:
        with pytest.raises(DeclarationError, match=r"every|lease"):
            HistoryManager(store, ALL).in_background(every, **more)


async def test_where_nothing_can_be_sealed(location: str) -> None:
    async with await open_store("memory:") as store:
        with pytest.raises(UnsupportedError, match="only a store in a file or in PostgreSQL"):
            HistoryManager(store, ALL).in_background(OFTEN)
    async with await open_store(location) as store:
        await some(store)
        await store.create_branch("what-if")
        async with await store.branch("what-if") as branch:
            with pytest.raises(UnsupportedError, match="no branch of it"):
                HistoryManager(branch, ALL).in_background(OFTEN)
