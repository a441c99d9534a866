# Generated from tests/_async/test_background_moving.py by tools/unasync.py: edit that, then run `make sync`.
"""History is moved in the background: one mover at a time, whatever happens to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from everwhen import Store, UnknownEvent, open_store
from everwhen.backends._sync.concurrency import sleep
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.errors import (
    BusyError,
    CorruptStoreError,
    DeclarationError,
    StorageFullError,
    UnsupportedError,
)
from everwhen.tiers import HistoryManager, HistoryPolicy, MovedSegment, Segment, SegmentSize
from everwhen.tiers._sync.mover_lease import MoverLease
from everwhen.tiers.mover_records import MOVER, mover_record_in
from everwhen.vocabulary.contract import Checkpoint, Move

ALL = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
OFTEN = timedelta(milliseconds=20)


def some(store: Store, count: int = 5) -> None:
    for _ in range(count):
        store.append("order-1", [UnknownEvent("Paid", {})])


def until(holds: Callable[[], bool]) -> None:
    while not holds():
        sleep(0.005)


def sealed_up_to(store: Store, position: int) -> None:
    while (HistoryManager(store, ALL).status()).sealed < position:
        sleep(0.005)


def test_what_is_written_is_sealed_again_and_again(location: str) -> None:
    seen: list[MovedSegment] = []
    with open_store(location) as store:
        manager = HistoryManager(store, ALL)
        assert (manager.status()).last_run is None
        some(store)
        with manager.in_background(OFTEN, progress=seen.append) as mover:
            assert "in the background" in repr(mover)
            for goal in (5, 10, 15):
                sealed_up_to(store, goal)
                some(store)
        assert "closed" in repr(mover)
        mover.close()
        assert [moved.segment.first for moved in seen][:2] == [1, 6]
        status = manager.status()
        assert status.last_error is None
        assert status.last_run is not None
        assert abs(datetime.now(UTC) - status.last_run) < timedelta(hours=1)
        assert mover_record_in(store.checkpoint(MOVER)).owner is None
        assert store.check() == []


def test_it_ends_with_its_store_and_between_two_segments(
    location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HistoryPolicy, "segment_size", SegmentSize(slices=2))
    store = open_store(location)
    some(store, 40)
    seen: list[MovedSegment] = []
    mover = HistoryManager(store, ALL).in_background(OFTEN, progress=seen.append)
    with mover:
        until(lambda: bool(seen))
    assert mover_record_in(store.checkpoint(MOVER)).owner is None
    with HistoryManager(store, ALL).in_background(OFTEN):
        store.close()


def test_two_movers_take_turns(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is ever stopped by the other: no step of theirs finds another's token."""
    monkeypatch.setattr(HistoryPolicy, "segment_size", SegmentSize(slices=3))
    stopped: list[BusyError] = []
    move = EmbeddedBackend.move

    def moving(self: EmbeddedBackend, wanted: Move) -> Segment | None:
        try:
            return move(self, wanted)
        except BusyError as error:
            stopped.append(error)
            raise

    monkeypatch.setattr(EmbeddedBackend, "move", moving)
    by: dict[str, list[int]] = {"one": [], "two": []}
    with (
        open_store(location) as one,
        open_store(location) as two,
    ):
        some(one, 30)
        with (
            HistoryManager(one, ALL).in_background(
                OFTEN, progress=lambda made: by["one"].append(made.segment.first)
            ),
            HistoryManager(two, ALL).in_background(
                OFTEN, progress=lambda made: by["two"].append(made.segment.first)
            ),
        ):
            for goal in range(30, 300, 9):
                sealed_up_to(one, goal)
                some(two, 9)
        assert stopped == []
        firsts = [segment.first for segment in one.kernel.backend.segments()]
        assert sorted([*by["one"], *by["two"]]) == firsts
        assert one.check() == []


def test_an_explicit_move_works_at_once_and_the_background_waits(location: str) -> None:
    with open_store(location) as store:
        manager = HistoryManager(store, ALL)
        some(store)
        held = MoverLease(store, 3_600.0)  # somebody who has died with it
        assert held.take(by_force=False)
        seen: list[MovedSegment] = []
        with manager.in_background(OFTEN, progress=seen.append):
            sleep(0.1)
            assert seen == []
            assert [moved.segment.last for moved in manager.age()] == [5]
            some(store)
            until(lambda: bool(seen))  # for the explicit one has given it back
        with pytest.raises(BusyError, match="another process moves"):
            held.renew()


def test_who_was_killed_is_followed_once_its_lease_is_over(location: str) -> None:
    with open_store(location) as store:
        some(store)
        dead = MoverLease(store, 0.5)
        assert dead.take(by_force=False)
        with HistoryManager(store, ALL).in_background(timedelta(hours=1), lease=0.4):
            sealed_up_to(store, 5)


def test_what_fails_is_kept_logged_and_tried_again(
    location: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = StorageFullError("s.db: no space left to write")
    failures = [full, full, CorruptStoreError("s.db: the file is damaged")]
    move = EmbeddedBackend.move

    def moving(self: EmbeddedBackend, wanted: Move) -> Segment | None:
        if failures:
            raise failures[0]
        return move(self, wanted)

    monkeypatch.setattr(EmbeddedBackend, "move", moving)
    with (
        open_store(location) as store,
        open_store(location, read_only=True) as elsewhere,
    ):
        some(store)
        with HistoryManager(store, ALL).in_background(OFTEN):
            while failures:
                due = failures.pop(0)
                failures.insert(0, due)
                while (HistoryManager(elsewhere, ALL).status()).last_error != (
                    f"{type(due).__name__}: {due}"
                ):
                    sleep(0.005)
                failures.pop(0)
            sealed_up_to(store, 5)
            while (HistoryManager(elsewhere, ALL).status()).last_error is not None:
                sleep(0.005)
        assert "no space left to write" in caplog.text
        failures.append(full)
        with pytest.raises(StorageFullError):
            HistoryManager(store, ALL).age()
        status = HistoryManager(elsewhere, ALL).status()
        assert status.last_error == f"StorageFullError: {full}"
        assert mover_record_in(store.checkpoint(MOVER)).owner is None


def test_damaged_history_is_told_and_the_application_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.db"
    with open_store(path) as store:
        some(store)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE slices SET body = X'00' WHERE position = 3")
    connection.close()
    with open_store(path) as store:
        with HistoryManager(store, ALL).in_background(OFTEN):
            while (HistoryManager(store, ALL).status()).last_error is None:
                sleep(0.005)
            some(store)
        status = HistoryManager(store, ALL).status()
        assert status.sealed == 0
        assert (status.last_error or "").startswith("CorruptStoreError: ")
        assert "history isn't moved" in caplog.text


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b'{"owner": 1}', b'{"ran_at": 9e99}', b'{"ran_at": 99999999999999999999}'],
)
def test_a_damaged_record_holds_nobody_up(location: str, data: bytes) -> None:
    with open_store(location) as store:
        some(store)
        with store.transaction() as transaction:
            transaction.save_checkpoint(Checkpoint(MOVER, 0, data))
        manager = HistoryManager(store, ALL)
        assert (manager.status()).last_run is None
        with manager.in_background(OFTEN):
            while (manager.status()).last_run is None:
                sleep(0.005)
        assert (manager.status()).sealed == 5


@pytest.mark.parametrize(
    ("every", "more"),
    [(timedelta(), {}), (-OFTEN, {}), (OFTEN, {"lease": 0}), (OFTEN, {"lease": 1e9})],
)
def test_durations_that_make_no_sense(
    location: str, every: timedelta, more: dict[str, Any]
) -> None:
    with open_store(location) as store:
        with pytest.raises(DeclarationError, match=r"every|lease"):
            HistoryManager(store, ALL).in_background(every, **more)


def test_where_nothing_can_be_sealed(location: str) -> None:
    with open_store("memory:") as store:
        with pytest.raises(UnsupportedError, match="only a store in a file or in PostgreSQL"):
            HistoryManager(store, ALL).in_background(OFTEN)
    with open_store(location) as store:
        some(store)
        store.create_branch("what-if")
        with store.branch("what-if") as branch:
            with pytest.raises(UnsupportedError, match="no branch of it"):
                HistoryManager(branch, ALL).in_background(OFTEN)
