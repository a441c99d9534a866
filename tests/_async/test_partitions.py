"""Partitioned stores: what is refused, found, added, settled after a crash, and rests on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from everwhen.aio import (
    NO_STREAM,
    Commit,
    Condition,
    ConditionError,
    ConflictError,
    Event,
    Fold,
    ProjectionRunner,
    Query,
    RecordedEvent,
    StorageError,
    Store,
    TableProjection,
    Tables,
    TimeMachine,
    UnknownEvent,
    Write,
    open_store,
)
from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.backends.partitioned import engine as partitioned_engine
from everwhen.backends.partitioned.engine import PartitionedEngine
from everwhen.backends.partitioned.partition_files import PartitionFiles, PartitionOptions
from everwhen.backends.partitioned.sequencer import Claim, ClaimRequest, SequencerPage, marks_of
from everwhen.backends.partitioned.strategies import partition_of
from everwhen.codec.commits import encoded, new_commit_id
from everwhen.errors import (
    BatchError,
    BeyondEndError,
    CorruptStoreError,
    DeclarationError,
    InvalidCommitError,
    NewerStoreError,
    NotAStoreError,
    UnsupportedError,
)
from everwhen.merkle.aio import MemoryTiles, MerkleLog
from everwhen.partitions import ByCategory, BySize, ByStream, ByTime
from everwhen.partitions.aio import add_partitions, open_partitioned_store
from everwhen.testing import ManualClock
from everwhen.vocabulary import Receipt
from everwhen.vocabulary.contract import Archive, Retire, Seal, SegmentSize
from everwhen_verify.notes import Signer

HOUR = timedelta(hours=1)
IN_2096 = 4_000_000_000_000_000  # microseconds
HERE, THERE = "s-3", "s-0"  # of two partitions, where there are two
assert partition_of(HERE, 2) == 0
assert partition_of(THERE, 2) == 1


class Paid(Event):
    amount: int


total = Fold("total", int)


@total.on(Paid)
def _(state: int, event: Paid) -> int:
    return state + event.amount


def some(count: int = 1) -> list[UnknownEvent]:
    return [UnknownEvent("T", {"n": number}) for number in range(count)]


def engine_of(store: Store) -> PartitionedEngine:
    backend = store.kernel.backend
    assert isinstance(backend, EmbeddedBackend)
    assert isinstance(backend._engine, PartitionedEngine)
    return backend._engine


async def positions(store: Store, query: Query | None = None) -> list[int]:
    return [event.position async for event in store.read(query or Query())]


# One commit, several partitions


async def test_a_commit_of_two_partitions_is_refused_and_names_both(tmp_path: Path) -> None:
    async with open_partitioned_store(tmp_path / "s", ByStream(2)) as store:
        assert not store.capabilities.joint_commits
        both = Commit([Write(HERE, some()), Write(THERE, some())])
        with pytest.raises(InvalidCommitError, match=f"'{HERE}' and '{THERE}' are in two.*categor"):
            await store.commit(both)
        assert (await store.head()).position == 0
        with pytest.raises(BatchError) as caught:
            await store.commit_batch([Commit([Write(HERE, some())]), both])
        assert [type(o) for o in caught.value.outcomes] == [Receipt, InvalidCommitError]
        assert await positions(store) == [1]


async def test_by_category_a_commit_may_touch_its_streams_together(tmp_path: Path) -> None:
    async with open_partitioned_store(tmp_path / "s", ByCategory(5)) as store:
        await store.commit(Commit([Write(f"game-{n}", some()) for n in range(20)]))
        with pytest.raises(InvalidCommitError, match="two partitions"):
            await store.commit(Commit([Write(name, some()) for name in ("a", "b", "c", "d")]))


async def test_beliefs_and_conditions_reach_over_all_partitions(tmp_path: Path) -> None:
    async with open_partitioned_store(tmp_path / "s", ByStream(2)) as store:
        await store.append(HERE, some(3))
        with pytest.raises(ConflictError) as caught:
            await store.commit(Commit([Write(THERE, some()), Write(HERE, [], 2)]))
        assert (caught.value.stream, caught.value.actual) == (HERE, 3)
        await store.commit(Commit([Write(THERE, some()), Write(HERE, [], 3)]))
        with pytest.raises(ConditionError) as broken:
            await store.append(THERE, some(), condition=Condition(Query().types("T"), 1))
        assert broken.value.position == 2, "the first in the order of positions"
        await store.append(THERE, some(), condition=Condition(Query().types("T"), 4))
        assert await positions(store) == [1, 2, 3, 4, 5]


async def test_a_batch_keeps_its_order_over_partitions(tmp_path: Path) -> None:
    async with open_partitioned_store(tmp_path / "s", ByStream(3)) as store:
        names = [f"s-{number % 7}" for number in range(40)]
        receipts = await store.commit_batch(Commit([Write(name, some())]) for name in names)
        assert [receipt.position for receipt in receipts] == list(range(1, 41))
        assert [event.stream async for event in store.read()] == names


async def test_an_import_may_come_with_times_of_its_own(tmp_path: Path) -> None:
    start = datetime(2020, 1, 1, tzinfo=UTC)
    async with open_partitioned_store(tmp_path / "s", ByStream(3)) as store:
        await store.commit_batch(
            Commit([Write(f"s-{n % 5}", some())], recorded_at=start + n * HOUR) for n in range(20)
        )
        with pytest.raises(InvalidCommitError, match="before the newest"):
            await store.commit(Commit([Write("s-9", some())], recorded_at=start))
        assert await store.position_at(start + 7.5 * HOUR) == 8
        assert await store.check() == []


# Opening


@pytest.mark.parametrize(
    "made",
    [
        lambda: ByStream(0),
        lambda: ByStream(65),
        lambda: ByCategory(True),
        lambda: ByTime(timedelta(milliseconds=1)),
        lambda: ByTime(7),  # type: ignore[arg-type]
        lambda: BySize(0),
        lambda: BySize(1.5),  # type: ignore[arg-type]
    ],
)
async def test_a_strategy_that_makes_no_partitions_is_refused(made: Any) -> None:
    with pytest.raises(DeclarationError, match="give a"):
        made()


async def test_the_strategy_is_recorded_and_checked(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    with pytest.raises(NotAStoreError, match=r"no partitions\.json"):
        await open_partitioned_store(folder)
    with pytest.raises(DeclarationError, match="give ByStream"):
        await open_partitioned_store(folder, "stream")  # type: ignore[arg-type]
    async with open_partitioned_store(folder, ByStream(2)) as store:
        await store.append(HERE, some())
    with pytest.raises(DeclarationError, match=r"ByStream\(partitions=2\), not BySize"):
        await open_partitioned_store(folder, BySize(7))
    with pytest.raises(DeclarationError, match="add_partitions"):
        await open_partitioned_store(folder, ByStream(3))
    for opening in (open_partitioned_store(folder), open_store(folder, read_only=True)):
        async with opening as store:
            assert await positions(store) == [1]
    with pytest.raises(StorageError):
        await open_store(tmp_path)  # a folder, and no store


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"format": 2}, NewerStoreError),
        ({"strategy": {"by": "moon"}}, CorruptStoreError),
        ({"strategy": {"by": "stream", "partitions": 0}}, CorruptStoreError),
        ({"placements": []}, CorruptStoreError),
        ({"placements": [3, 2]}, CorruptStoreError),
        ({"placements": [2, 900]}, CorruptStoreError),
        ({"placements": [3]}, CorruptStoreError),
        ({"starts": [1]}, CorruptStoreError),
        ({"more": 1}, CorruptStoreError),
    ],
)
async def test_a_record_that_no_store_writes_is_refused(
    change: dict[str, Any], error: type[StorageError], tmp_path: Path
) -> None:
    async with open_partitioned_store(tmp_path / "s", ByStream(2)):
        pass
    record = tmp_path / "s" / "partitions.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    with pytest.raises(error, match=r"partitions\.json"):
        await open_store(tmp_path / "s")


# What check finds


async def test_a_missing_partition_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with open_partitioned_store(folder, BySize(1)) as store:
        for _ in range(3):
            await store.append("a", some())
    (folder / "0002.db").unlink()
    async with open_store(folder) as store:
        found = await store.check()
        assert any("0002.db: a partition's file is missing" in problem.what for problem in found)
        with pytest.raises(CorruptStoreError, match=r"0002\.db"):
            await positions(store)
    async with open_partitioned_store(tmp_path / "t", ByStream(2)) as store:
        await store.append(HERE, some())
    (tmp_path / "t" / "0001.db").unlink()
    with pytest.raises(CorruptStoreError, match=r"0001\.db"):
        await open_store(tmp_path / "t")


def forge(folder: Path, number: int, commit: Commit, store: Store, after: tuple[int, int]) -> None:
    """Write a commit into a partition's file, past the store."""
    files = PartitionFiles(folder, PartitionOptions(False, True, 1.0), lambda number, stream: 0)
    with files.groups([number]) as (group,):
        group.add_after(encoded(commit, store.kernel.codec, new_commit_id), after, None)
        group.insert()
    files.close()


@pytest.mark.parametrize(
    ("stream", "after", "what"),
    [
        (THERE, (9, IN_2096), "doesn't belong in this partition"),
        (HERE, (1, IN_2096), "where others stand"),
        (HERE, (9, 0), "recorded_at is earlier"),
    ],
)
async def test_check_looks_at_what_joins_partitions(
    stream: str, after: tuple[int, int], what: str, tmp_path: Path
) -> None:
    folder = tmp_path / "s"
    async with open_partitioned_store(folder, ByStream(2)) as store:
        await store.append(THERE, some(3))
        assert await store.check() == []
        forge(folder, 0, Commit([Write(stream, some())]), store, after)
        found = await store.check()
        assert any(what in problem.what for problem in found), found
        assert all("0001.db" in p.where or "0002.db" in p.where for p in found)


async def test_check_follows_streams_over_partitions(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with open_partitioned_store(folder, BySize(2)) as store:
        for _ in range(5):
            await store.append("a", some())
        assert await store.check() == []
        moment = int((await store.head()).recorded_at.timestamp() * 1e6) + 1_000_000  # type: ignore[union-attr]
        forge(folder, 2, Commit([Write("b", some())]), store, (5, moment))
        assert await store.check() == []
        forge(folder, 1, Commit([Write("b", some())]), store, (6, moment))
        found = [problem.what for problem in await store.check()]
        assert "doesn't follow on version 1" in found
        assert any("doesn't belong" in what for what in found)


# More partitions


@pytest.mark.parametrize("strategy", [ByStream, ByCategory])
async def test_partitions_are_added_and_nothing_moves(strategy: Any, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    names = [f"c{number}-1" for number in range(24)]
    async with open_partitioned_store(folder, strategy(2)) as store:
        for name in names[:12]:
            await store.append(name, some())
        before = {path.name: path.stat().st_size for path in folder.glob("0*.db")}
        await add_partitions(folder, 5)
        for name in names:  # by a store that was opened before
            await store.append(name, some(), expected=1 if name in names[:12] else NO_STREAM)
        assert [info.name async for info in store.streams()] == sorted(names)
        assert await store.check() == []
    assert sorted(before) == ["0001.db", "0002.db"]
    async with open_partitioned_store(folder, strategy(5)) as store:
        assert await positions(store) == list(range(1, 37))
        assert await store.version(names[0]) == 2
        assert await store.check() == []
        for number in (5, 4, 0, 65):
            with pytest.raises(DeclarationError, match="it has 5 partitions"):
                await add_partitions(folder, number)


async def test_by_size_there_is_nothing_to_add(tmp_path: Path) -> None:
    async with open_partitioned_store(tmp_path / "s", BySize(7)):
        with pytest.raises(DeclarationError, match="added as events come"):
            await add_partitions(tmp_path / "s", 2)


async def test_by_size_a_file_ends_with_the_commit_that_fills_it(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with open_partitioned_store(folder, BySize(10)) as store:
        await store.commit_batch(Commit([Write("a", some(4))]) for _ in range(10))
        assert await store.version("a") == 40
    record = json.loads((folder / "partitions.json").read_text())
    assert record["starts"] == [1, 13, 25, 37]
    assert len(list(folder.glob("0*.db"))) == 4


async def test_another_thread_learns_of_a_partition_while_a_commit_is_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit goes by the layout that it was placed by, or is placed anew: it is found."""
    path, strategy = tmp_path / "log", BySize(3)
    async with open_partitioned_store(path, strategy) as here:
        await here.append("a", some(2))
        async with open_partitioned_store(path, strategy) as there:
            engine, other, real = engine_of(here), engine_of(there), PartitionFiles.groups
            codec = there.kernel.codec
            more = [encoded(Commit([Write("b", some(3))]), codec, new_commit_id) for _ in range(2)]
            grown: list[int] = []

            def groups(files: PartitionFiles, numbers: Sequence[int]) -> Any:
                if files is engine._files and not grown:
                    grown.append(engine.known().layout.generation)
                    for commit in more:  # the first fills the partition, the next begins another
                        other.write([commit])
                    engine.refresh()
                return real(files, numbers)

            monkeypatch.setattr(PartitionFiles, "groups", groups)
            await here.append("a", some(3))
            assert engine.known().layout.generation > grown[0]
        assert await positions(here) == list(range(1, 12))
        assert await here.check() == []


async def test_an_older_layout_never_takes_a_newer_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where one thread has read it, and another one the next before it goes on."""
    async with open_partitioned_store(tmp_path / "log", BySize(3)) as store:
        engine = engine_of(store)
        older = engine.known().layout
        for _ in range(3):
            await store.append("a", some(3))
        newest = engine.known().layout
        assert newest.generation > older.generation
        monkeypatch.setattr(partitioned_engine, "read_layout", lambda _: older)
        engine.refresh()
        assert engine.known().layout == newest


async def test_by_time_each_interval_has_a_file(tmp_path: Path) -> None:
    folder, clock = tmp_path / "s", ManualClock()
    async with open_partitioned_store(folder, ByTime(HOUR), clock=clock) as store:
        for minutes in (0, 20, 30, 20, 200, -100):
            clock.advance(minutes * 60)
            await store.append("a", some())
        assert json.loads((folder / "partitions.json").read_text())["starts"] == [1, 4, 5]
        old = (folder / "0001.db").read_bytes()
        await store.append("b", some(), expected=NO_STREAM)
        assert (folder / "0001.db").read_bytes() == old
        assert await positions(store, Query().backwards()) == [7, 6, 5, 4, 3, 2, 1]
        start = datetime(2024, 1, 1, tzinfo=UTC)
        assert [await store.position_at(start + n * HOUR) for n in (0, 1, 2, 9)] == [1, 3, 4, 7]


# After a crash


async def test_the_claim_of_a_killed_writer_is_settled(tmp_path: Path) -> None:
    """Its process is gone, and its claim is still there: what it didn't commit is a hole."""
    folder = tmp_path / "s"
    async with open_partitioned_store(folder, ByStream(2)) as store:
        await store.append(HERE, some())
        sequencer = engine_of(store)._sequencer
        page = sequencer.page()
        request = ClaimRequest(
            (1,), 3, page.generation, page.newest, page.recorded_at, page.recorded_at
        )
        with sequencer.claiming(request, is_timed=False) as claimed:
            assert (claimed.first, claimed.last) == (2, 4)
        assert sequencer.page().claims == (Claim(1, 2, 4, 0),)
        receipt = await store.append(HERE, some())  # waits until that is settled
        assert receipt.position == 5
        assert await positions(store) == [1, 5]
        assert sequencer.page().claims == ()
        assert await store.check() == []
        assert (await store.append(THERE, some())).position == 6


async def test_a_hole_at_the_end_is_not_beyond_it(tmp_path: Path) -> None:
    """Who has read up to there waits for what comes, though no event is that far."""
    async with open_partitioned_store(tmp_path / "s", ByStream(2)) as store:
        await store.append(HERE, some())
        sequencer = engine_of(store)._sequencer
        page = sequencer.page()
        request = ClaimRequest(
            (1,), 3, page.generation, page.newest, page.recorded_at, page.recorded_at
        )
        with sequencer.claiming(request, is_timed=False):
            pass  # positions 2 to 4 are never committed
        page = sequencer.page()
        request = ClaimRequest(
            (0,), 1, page.generation, page.newest, page.recorded_at, page.recorded_at
        )
        with sequencer.claiming(request, is_timed=False):
            page = sequencer.page()
            settled = msgspec.structs.replace(page, newest=5, claims=(Claim(0, 5, 5, 0),))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sequencer, "page", lambda: settled)
                assert (await store.head()).position == 1
                page_read = await store.kernel.backend.read(Query(), 10)
                assert page_read.cursor == 4
                assert await store.kernel.backend.wait(page_read.cursor, 0) is False
                with pytest.raises(BeyondEndError):
                    await store.kernel.backend.wait(5, 0)


@pytest.mark.parametrize("page", [b"", b"x" * 500, None])
async def test_the_sequencer_is_made_anew_from_the_partitions(
    page: bytes | None, tmp_path: Path
) -> None:
    folder, clock = tmp_path / "s", ManualClock()
    async with open_partitioned_store(folder, ByStream(2), clock=clock) as store:
        await store.append(HERE, some(3))
        await store.append(THERE, some(2))
    path = folder / "sequencer"
    path.unlink() if page is None else path.write_bytes(page)
    clock.advance(-500)
    async with open_partitioned_store(folder, clock=clock) as store:
        receipt = await store.append(HERE, some())
        assert receipt.position == 6
        assert await store.check() == []


async def test_two_claims_with_an_id_in_common_share_a_mark() -> None:
    ids = [new_commit_id() for _ in range(50)]
    assert all(marks_of(ids) & marks_of([one]) for one in ids)
    assert marks_of(ids) < 1 << 256
    assert SequencerPage(1, 9, 7, 0, (Claim(0, 5, 5), Claim(1, 8, 8))).settled == 4


# What rests on a store


async def test_followers_travel_and_proofs_rest_on_partitions(tmp_path: Path) -> None:
    rows = TableProjection("rows", ["CREATE TABLE {rows} (stream TEXT, amount INTEGER)"])

    @rows.on(Paid)
    def add(tables: Tables, paid: RecordedEvent[Paid]) -> None:
        tables.execute("INSERT INTO {rows} VALUES (?, ?)", (paid.stream, paid.event.amount))

    async with open_partitioned_store(tmp_path / "s", ByStream(3), events=[Paid]) as store:
        for number in range(30):
            await store.append(f"s-{number % 7}", [Paid(number)])
        async with ProjectionRunner(store, [rows]) as runner:
            await runner.catch_up()
        async with store.transaction() as transaction:
            assert await transaction.execute("SELECT count(*), sum(amount) FROM rows") == [
                (30, 435)
            ]
        machine = TimeMachine(store, total)
        assert (await machine.travel_to(10)).state == 45
        log = MerkleLog(store, MemoryTiles(), Signer.generate("example.org/s"))
        await log.sign()
        assert (await log.verify()).is_sound
        branch = await store.create_branch("what-if", 12)
        await branch.append("s-1", [Paid(1_000)])
        assert await positions(branch, Query().after(11)) == [12, 13]
        assert await branch.check() == []
        await branch.close()


async def test_a_subscription_hears_of_another_opener(tmp_path: Path) -> None:
    async with (
        open_partitioned_store(tmp_path / "s", ByStream(3)) as here,
        open_store(tmp_path / "s") as there,
        here.subscribe() as following,
    ):
        for number in range(12):
            receipt = await there.append(f"s-{number}", some())
            assert (await anext(following)).position == receipt.position


async def test_sql_over_all_of_history_and_sealing(tmp_path: Path) -> None:
    for strategy in (ByStream(3), BySize(7)):
        folder = tmp_path / type(strategy).__name__
        async with open_partitioned_store(folder, strategy) as store:
            for number in range(40):
                await store.append(f"s-{number % 7}", some())
            backend = store.kernel.backend
            size = SegmentSize(slices=8, frame=2, frames=2)
            while await backend.move(Seal(30, size)) is not None:
                pass
            assert await positions(store) == list(range(1, 41))
            assert await store.check() == []
            result = await store.sql("SELECT count(*), max(position) FROM events")
            assert [*result] == [(40, 40)]
            moves = (Retire(8, 40), Archive(8, (tmp_path / "archive").as_uri()))
            for move in moves if isinstance(strategy, ByStream) else moves[:1]:
                with pytest.raises(UnsupportedError, match="history"):
                    await backend.move(move)


async def test_what_partitions_cannot_do_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with open_partitioned_store(tmp_path / "s", ByTime(HOUR)) as store:
        with pytest.raises(UnsupportedError, match="copy its folder"):
            await store.backup(tmp_path / "copy.db")
        with pytest.raises(UnsupportedError, match="several files"):
            store.sql_connection()
        with pytest.raises(UnsupportedError, match="nothing inline"):
            await store.kernel.backend.attach(lambda transaction: None)
