"""What a policy moves to the archive and back, and gives up, and when."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from pathlib import Path

import pytest

from everwhen.aio import Event, Fold, Query, Store, UnknownEvent, open_store
from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.errors import DeclarationError, LossError, RetiredError, StorageError
from everwhen.store.retirement_records import RETIREMENTS, HistoryRetired
from everwhen.system.object_storage import ObjectStorage, object_url
from everwhen.testing import ManualClock
from everwhen.tiers import HistoryPolicy, MovedSegment, SegmentSize
from everwhen.tiers._async import retiring
from everwhen.tiers.aio import HistoryManager
from everwhen.vocabulary import Snapshot
from everwhen.vocabulary.contract import Archive, Sweep

DAY = timedelta(days=1)
NOW = timedelta()


class Paid(Event):
    """Something is paid."""

    amount: int


total = Fold("total", int)


@total.on(Paid)
def _(state: int, event: Paid) -> int:
    return state + event.amount


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HistoryPolicy, "segment_size", SegmentSize(slices=5))


async def filled(path: Path | str, clock: ManualClock) -> Store:
    """A store with five events on each of ten days, in segments of a day each, if they are."""
    store = await open_store(path, events=[Paid], clock=clock)
    for day in range(10):
        for number in range(5):
            await store.append(f"order-{number}", [Paid(day)])
        clock.advance(DAY.total_seconds())
    return store


def moved(made: list[MovedSegment]) -> list[tuple[str, int]]:
    return [(one.how, one.segment.last) for one in made]


async def test_segments_go_their_way_as_they_grow_older(
    location: str, tmp_path: Path, clock: ManualClock
) -> None:
    policy = HistoryPolicy(hot_duration=2 * DAY, archive_after=5 * DAY, warm_duration=2 * DAY)
    async with await filled(location, clock) as store:
        everything = [event.data async for event in store.read()]
        manager = HistoryManager(store, policy, archive=tmp_path / "far")
        plan = await manager.plan()
        assert (plan.seal, plan.archive, plan.evict) == ((1, 45), (), ())
        made = moved(await manager.age())
        assert made[:9] == [("sealed", last) for last in range(5, 50, 5)]
        assert made[9:15] == [("archived", last) for last in range(5, 35, 5)]
        assert made[15:] == [("evicted", last) for last in range(5, 25, 5)]
        status = await manager.status()
        assert [one.is_cold for one in status.archived] == [False] * 4 + [True] * 2
        assert status.archive_size == sum(f.stat().st_size for f in (tmp_path / "far").iterdir())
        assert await manager.age() == []
        clock.advance(DAY.total_seconds())
        plan = await manager.plan()
        assert (plan.seal, plan.archive, plan.evict) == ((46, 50), ((31, 35),), ((21, 25),))
        assert moved(await manager.age()) == [("sealed", 50), ("archived", 35), ("evicted", 25)]
        assert [event.data async for event in store.read()] == everything
        assert await store.fold(total, "order-3") == sum(range(10))
        assert await store.check() == []


async def test_archives_are_brought_back_and_merged(
    location: str, tmp_path: Path, clock: ManualClock
) -> None:
    policy = HistoryPolicy(hot_duration=NOW, archive_after=NOW, unused_duration=DAY)
    far = tmp_path / "far"
    async with await filled(location, clock) as store:
        everything = [event.data async for event in store.read()]
        manager = HistoryManager(store, policy, archive=far)
        assert len(await manager.age()) == 30
        seen: list[MovedSegment] = []
        back = await manager.restore(12, 21, seen.append)
        assert (moved(back), back) == ([("restored", last) for last in (15, 20, 25)], seen)
        status = await manager.status()
        assert [one.is_cold for one in status.segments] == [False] * 2 + [True] * 3 + [False] * 5
        merged = await manager.merge(1 << 20)
        assert moved(merged) == [("merged", 10), ("merged", 50)]
        assert await manager.merge(1 << 20) == []
        assert len({one.object for one in (await manager.status()).archived}) == 2
        assert len(list(far.iterdir())) == 12
        assert [event.data async for event in store.read()] == everything
        assert await store.check() == []
        clock.advance(DAY.total_seconds() + 1)
        assert moved(await manager.age())[0] == ("archived", 15)
        assert len(list(far.iterdir())) == 5
        assert moved(await manager.restore()) == [("restored", last) for last in range(5, 55, 5)]
        assert await store.check() == []
        for file in far.iterdir():
            file.unlink()
        assert [event.data async for event in store.read()] == everything


async def test_what_is_not_there_is_not_looked_for_in_the_archive(
    location: str, tmp_path: Path, clock: ManualClock
) -> None:
    policy = HistoryPolicy(hot_duration=NOW, archive_after=NOW)
    async with await filled(location, clock) as store:
        await HistoryManager(store, policy, archive=tmp_path / "far").age()
        (tmp_path / "far").rename(tmp_path / "away")
        for query in (
            Query().stream("nobody"),
            Query().stream("nobody", "no-one"),
            Query().category("nothing"),
            Query().types("Never"),
            Query().tags("none"),
            Query().stream("nobody").backwards(),
        ):
            assert [event async for event in store.read(query)] == []
        with pytest.raises(StorageError, match="far"):
            [event async for event in store.read("order-1")]
        receipt = await store.append("order-1", [Paid(1)], expected=10)
        assert (receipt.position, receipt.versions) == (51, {"order-1": 11})


async def test_an_upload_that_was_never_made_is_swept(
    location: str, tmp_path: Path, clock: ManualClock
) -> None:
    async with await filled(location, clock) as store:
        await HistoryManager(store, HistoryPolicy(hot_duration=NOW)).age()
        backend = store.kernel.backend
        assert isinstance(backend, EmbeddedBackend)
        steps = backend._engine.moving(Archive(5, object_url(tmp_path / "far"))).steps()
        for step in islice(steps, 2):  # its name is written down
            step()
        await backend.move(Sweep(1 << 60))
        assert list((tmp_path / "far").iterdir()) == []
        assert await store.check() == []


def test_a_name_leads_nowhere_else(location: str, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "mine").write_text("mine")
    storage = ObjectStorage(object_url(tmp_path / "far"))
    for name in ("../mine", "/etc/hostname", "a/../../mine", str(tmp_path / "mine"), ".."):
        for use in (storage.delete, storage.size, lambda one: storage.read(one, 0, 1)):
            with pytest.raises(StorageError, match="isn't in the folder"):
                use(name)
        with pytest.raises(StorageError, match="isn't in the folder"):
            storage.put(name, b"")
    assert (tmp_path / "mine").read_text() == "mine"


async def test_a_category_that_is_kept_keeps_its_segments(
    location: str, tmp_path: Path, clock: ManualClock
) -> None:
    own = {"vip": HistoryPolicy(archive_after=30 * DAY, delete_after=60 * DAY)}
    policy = HistoryPolicy(
        hot_duration=NOW, archive_after=NOW, delete_after=20 * DAY, per_category=own
    )
    async with await open_store(location, events=[Paid], clock=clock) as store:
        for number in range(15):
            await store.append("vip-1" if number == 7 else "order-1", [Paid(number)])
        manager = HistoryManager(store, policy, archive=tmp_path / "far")
        await manager.age()
        assert [one.last for one in (await manager.status()).archived] == [5, 15]
        plan = await manager.plan()
        assert [(one.move, one.category, one.position) for one in plan.held] == [
            ("archive", "vip", 8)
        ]
        clock.advance(21 * DAY.total_seconds())
        plan = await manager.plan()
        assert plan.retire is not None
        assert (plan.retire.last, plan.retire.lost) == (5, ("order-1",))
        assert ("retire", "vip", 8) in [(one.move, one.category, one.position) for one in plan.held]
        await manager.age(allow_loss=True)
        assert (await manager.status()).retired == 5
        clock.advance(40 * DAY.total_seconds())
        await manager.age(allow_loss=True)
        assert (await manager.status()).retired >= 15


async def test_audit_entries_have_their_own_retention(location: str, clock: ManualClock) -> None:
    kept = HistoryPolicy(hot_duration=NOW, delete_after=DAY)
    async with await open_store(location, events=[Paid], clock=clock) as store:
        for number in range(10):
            await store.append("order-1", [Paid(number)])
        await store.append("audit-2024-01", [UnknownEvent("AuditEntry", {})])
        for number in range(4):
            await store.append("order-1", [Paid(number)])
        clock.advance(30 * DAY.total_seconds())
        await HistoryManager(store, kept).age(allow_loss=True)
        assert (await HistoryManager(store, kept).status()).retired == 10
        audit = {"audit": HistoryPolicy(delete_after=90 * DAY)}
        own = HistoryPolicy(hot_duration=NOW, delete_after=DAY, per_category=audit)
        await HistoryManager(store, own).age(allow_loss=True)
        assert (await HistoryManager(store, own).status()).retired == 10
        clock.advance(61 * DAY.total_seconds())
        await HistoryManager(store, own).age(allow_loss=True)
        assert (await HistoryManager(store, own).status()).retired >= 15


async def test_nothing_is_retired_that_would_be_lost(
    location: str, tmp_path: Path, clock: ManualClock
) -> None:
    policy = HistoryPolicy(hot_duration=NOW, delete_after=7 * DAY, archive_after=NOW)
    async with await filled(location, clock) as store:
        manager = HistoryManager(store, policy, archive=tmp_path / "far")
        with pytest.raises(LossError, match=r"5 streams .*'order-0', 'order-1', 'order-2' and 2"):
            await manager.age()
        assert [one.last for one in (await manager.status()).archived] == list(range(5, 55, 5))
        async with store.transaction() as transaction:
            for number in range(5):
                version = 13 if number == 3 else 20
                subject = f"total/order-{number}"
                await transaction.save_snapshot(Snapshot(subject, version, "total", 1, b"6"))
        plan = await manager.plan()
        assert plan.retire is not None
        assert (plan.retire.first, plan.retire.last, plan.retire.events) == (1, 20, 20)
        assert plan.retire.lost == ("order-3",)
        with pytest.raises(LossError) as caught:
            await manager.age()
        assert caught.value.streams == ("order-3",)
        async with store.transaction() as transaction:
            await transaction.save_snapshot(Snapshot("total/order-3", 20, "total", 1, b"6"))
        await store.create_branch("early", at=20)
        with pytest.raises(DeclarationError, match="branch 'early' begins at position 20"):
            await manager.age()
        assert (await manager.status()).retired == 0
        await store.delete_branch("early")
        assert ("retired", 20) in moved(await manager.age())
        (record,) = [event async for event in store.read(RETIREMENTS)]
        assert record.type == HistoryRetired.__name__
        assert (record.data["first"], record.data["last"], record.data["lost"]) == (1, 20, 0)
        assert (record.data["events"], record.data["commits"]) == (20, 20)
        with pytest.raises(RetiredError):
            [event async for event in store.read()]
        assert len([event async for event in store.read(Query().skipping_retired())]) == 31
        clock.advance(DAY.total_seconds())
        await manager.age(allow_loss=True)
        second = [event.data async for event in store.read(RETIREMENTS)][-1]
        assert (second["first"], second["last"], second["commits"]) == (21, 25, 25)
        assert await store.check() == []


async def test_what_was_recorded_and_cut_off_is_carried_out(
    location: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = HistoryPolicy(hot_duration=NOW, delete_after=7 * DAY)
    async with await filled(location, clock) as store:
        manager = HistoryManager(store, policy)

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(retiring, "Retire", killed)
            with pytest.raises(KeyboardInterrupt):
                await manager.age(allow_loss=True)
        assert (await manager.status()).retired == 0
        assert (await store.stream(RETIREMENTS)) is not None
        assert moved(await HistoryManager(store, policy).age())[0] == ("retired", 20)
        assert len([event async for event in store.read(RETIREMENTS)]) == 1


async def test_an_archive_that_does_not_answer_is_seen(
    location: str, tmp_path: Path, clock: ManualClock
) -> None:
    (tmp_path / "far").write_text("a file where a folder should be")
    policy = HistoryPolicy(hot_duration=NOW, archive_after=NOW)
    async with await filled(location, clock) as store:
        manager = HistoryManager(store, policy, archive=tmp_path / "far")
        with pytest.raises(Exception, match="far: can't make"):
            await manager.age()
        status = await manager.status()
        assert status.last_error is not None
        assert "far: can't make" in status.last_error
        assert all(one.is_cold for one in status.segments)
        (tmp_path / "far").unlink()
        assert len(await manager.age()) == 20
        assert (await manager.status()).last_error is None
        with pytest.raises(DeclarationError, match="needs an archive"):
            HistoryManager(store, policy)
