# Generated from tests/_async/test_aging.py by tools/unasync.py: edit that, then run `make sync`.
"""What a policy moves to the archive and back, and gives up, and when."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from pathlib import Path

import pytest

from everwhen import Event, Fold, Query, Store, UnknownEvent, open_store
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.errors import DeclarationError, LossError, RetiredError, StorageError
from everwhen.store.retirement_records import RETIREMENTS, HistoryRetired
from everwhen.system.object_storage import ObjectStorage, object_url
from everwhen.testing import ManualClock
from everwhen.tiers import HistoryManager, HistoryPolicy, MovedSegment, SegmentSize
from everwhen.tiers._sync import retiring
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


def filled(path: Path | str, clock: ManualClock) -> Store:
    """A store with five events on each of ten days, in segments of a day each, if they are."""
    store = open_store(path, events=[Paid], clock=clock)
    for day in range(10):
        for number in range(5):
            store.append(f"order-{number}", [Paid(day)])
        clock.advance(DAY.total_seconds())
    return store


def moved(made: list[MovedSegment]) -> list[tuple[str, int]]:
    return [(one.how, one.segment.last) for one in made]


def test_segments_go_their_way_as_they_grow_older(
    location: str, tmp_path: Path, clock: ManualClock
) -> None:
    policy = HistoryPolicy(hot_duration=2 * DAY, archive_after=5 * DAY, warm_duration=2 * DAY)
    with filled(location, clock) as store:
        everything = [event.data for event in store.read()]
        manager = HistoryManager(store, policy, archive=tmp_path / "far")
        plan = manager.plan()
        assert (plan.seal, plan.archive, plan.evict) == ((1, 45), (), ())
        made = moved(manager.age())
        assert made[:9] == [("sealed", last) for last in range(5, 50, 5)]
        assert made[9:15] == [("archived", last) for last in range(5, 35, 5)]
        assert made[15:] == [("evicted", last) for last in range(5, 25, 5)]
        status = manager.status()
        assert [one.is_cold for one in status.archived] == [False] * 4 + [True] * 2
        assert status.archive_size == sum(f.stat().st_size for f in (tmp_path / "far").iterdir())
        assert manager.age() == []
        clock.advance(DAY.total_seconds())
        plan = manager.plan()
        assert (plan.seal, plan.archive, plan.evict) == ((46, 50), ((31, 35),), ((21, 25),))
        assert moved(manager.age()) == [("sealed", 50), ("archived", 35), ("evicted", 25)]
        assert [event.data for event in store.read()] == everything
        assert store.fold(total, "order-3") == sum(range(10))
        assert store.check() == []


def test_archives_are_brought_back_and_merged(
    location: str, tmp_path: Path, clock: ManualClock
) -> None:
    policy = HistoryPolicy(hot_duration=NOW, archive_after=NOW, unused_duration=DAY)
    far = tmp_path / "far"
    with filled(location, clock) as store:
        everything = [event.data for event in store.read()]
        manager = HistoryManager(store, policy, archive=far)
        assert len(manager.age()) == 30
        seen: list[MovedSegment] = []
        back = manager.restore(12, 21, seen.append)
        assert (moved(back), back) == ([("restored", last) for last in (15, 20, 25)], seen)
        status = manager.status()
        assert [one.is_cold for one in status.segments] == [False] * 2 + [True] * 3 + [False] * 5
        merged = manager.merge(1 << 20)
        assert moved(merged) == [("merged", 10), ("merged", 50)]
        assert manager.merge(1 << 20) == []
        assert len({one.object for one in (manager.status()).archived}) == 2
        assert len(list(far.iterdir())) == 12
        assert [event.data for event in store.read()] == everything
        assert store.check() == []
        clock.advance(DAY.total_seconds() + 1)
        assert moved(manager.age())[0] == ("archived", 15)
        assert len(list(far.iterdir())) == 5
        assert moved(manager.restore()) == [("restored", last) for last in range(5, 55, 5)]
        assert store.check() == []
        for file in far.iterdir():
            file.unlink()
        assert [event.data for event in store.read()] == everything


def test_what_is_not_there_is_not_looked_for_in_the_archive(
    location: str, tmp_path: Path, clock: ManualClock
) -> None:
    policy = HistoryPolicy(hot_duration=NOW, archive_after=NOW)
    with filled(location, clock) as store:
        HistoryManager(store, policy, archive=tmp_path / "far").age()
        (tmp_path / "far").rename(tmp_path / "away")
        for query in (
            Query().stream("nobody"),
            Query().stream("nobody", "no-one"),
            Query().category("nothing"),
            Query().types("Never"),
            Query().tags("none"),
            Query().stream("nobody").backwards(),
        ):
            assert [event for event in store.read(query)] == []
        with pytest.raises(StorageError, match="far"):
            [event for event in store.read("order-1")]
        receipt = store.append("order-1", [Paid(1)], expected=10)
        assert (receipt.position, receipt.versions) == (51, {"order-1": 11})


def test_an_upload_that_was_never_made_is_swept(
    location: str, tmp_path: Path, clock: ManualClock
) -> None:
    with filled(location, clock) as store:
        HistoryManager(store, HistoryPolicy(hot_duration=NOW)).age()
        backend = store.kernel.backend
        assert isinstance(backend, EmbeddedBackend)
        steps = backend._engine.moving(Archive(5, object_url(tmp_path / "far"))).steps()
        for step in islice(steps, 2):  # its name is written down
            step()
        backend.move(Sweep(1 << 60))
        assert list((tmp_path / "far").iterdir()) == []
        assert store.check() == []


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


def test_a_category_that_is_kept_keeps_its_segments(
    location: str, tmp_path: Path, clock: ManualClock
) -> None:
    own = {"vip": HistoryPolicy(archive_after=30 * DAY, delete_after=60 * DAY)}
    policy = HistoryPolicy(
        hot_duration=NOW, archive_after=NOW, delete_after=20 * DAY, per_category=own
    )
    with open_store(location, events=[Paid], clock=clock) as store:
        for number in range(15):
            store.append("vip-1" if number == 7 else "order-1", [Paid(number)])
        manager = HistoryManager(store, policy, archive=tmp_path / "far")
        manager.age()
        assert [one.last for one in (manager.status()).archived] == [5, 15]
        plan = manager.plan()
        assert [(one.move, one.category, one.position) for one in plan.held] == [
            ("archive", "vip", 8)
        ]
        clock.advance(21 * DAY.total_seconds())
        plan = manager.plan()
        assert plan.retire is not None
        assert (plan.retire.last, plan.retire.lost) == (5, ("order-1",))
        assert ("retire", "vip", 8) in [(one.move, one.category, one.position) for one in plan.held]
        manager.age(allow_loss=True)
        assert (manager.status()).retired == 5
        clock.advance(40 * DAY.total_seconds())
        manager.age(allow_loss=True)
        assert (manager.status()).retired >= 15


def test_audit_entries_have_their_own_retention(location: str, clock: ManualClock) -> None:
    kept = HistoryPolicy(hot_duration=NOW, delete_after=DAY)
    with open_store(location, events=[Paid], clock=clock) as store:
        for number in range(10):
            store.append("order-1", [Paid(number)])
        store.append("audit-2024-01", [UnknownEvent("AuditEntry", {})])
        for number in range(4):
            store.append("order-1", [Paid(number)])
        clock.advance(30 * DAY.total_seconds())
        HistoryManager(store, kept).age(allow_loss=True)
        assert (HistoryManager(store, kept).status()).retired == 10
        audit = {"audit": HistoryPolicy(delete_after=90 * DAY)}
        own = HistoryPolicy(hot_duration=NOW, delete_after=DAY, per_category=audit)
        HistoryManager(store, own).age(allow_loss=True)
        assert (HistoryManager(store, own).status()).retired == 10
        clock.advance(61 * DAY.total_seconds())
        HistoryManager(store, own).age(allow_loss=True)
        assert (HistoryManager(store, own).status()).retired >= 15


def test_nothing_is_retired_that_would_be_lost(
    location: str, tmp_path: Path, clock: ManualClock
) -> None:
    policy = HistoryPolicy(hot_duration=NOW, delete_after=7 * DAY, archive_after=NOW)
    with filled(location, clock) as store:
        manager = HistoryManager(store, policy, archive=tmp_path / "far")
        with pytest.raises(LossError, match=r"5 streams .*'order-0', 'order-1', 'order-2' and 2"):
            manager.age()
        assert [one.last for one in (manager.status()).archived] == list(range(5, 55, 5))
        with store.transaction() as transaction:
            for number in range(5):
                version = 13 if number == 3 else 20
                subject = f"total/order-{number}"
                transaction.save_snapshot(Snapshot(subject, version, "total", 1, b"6"))
        plan = manager.plan()
        assert plan.retire is not None
        assert (plan.retire.first, plan.retire.last, plan.retire.events) == (1, 20, 20)
        assert plan.retire.lost == ("order-3",)
        with pytest.raises(LossError) as caught:
            manager.age()
        assert caught.value.streams == ("order-3",)
        with store.transaction() as transaction:
            transaction.save_snapshot(Snapshot("total/order-3", 20, "total", 1, b"6"))
        store.create_branch("early", at=20)
        with pytest.raises(DeclarationError, match="branch 'early' begins at position 20"):
            manager.age()
        assert (manager.status()).retired == 0
        store.delete_branch("early")
        assert ("retired", 20) in moved(manager.age())
        (record,) = [event for event in store.read(RETIREMENTS)]
        assert record.type == HistoryRetired.__name__
        assert (record.data["first"], record.data["last"], record.data["lost"]) == (1, 20, 0)
        assert (record.data["events"], record.data["commits"]) == (20, 20)
        with pytest.raises(RetiredError):
            [event for event in store.read()]
        assert len([event for event in store.read(Query().skipping_retired())]) == 31
        clock.advance(DAY.total_seconds())
        manager.age(allow_loss=True)
        second = [event.data for event in store.read(RETIREMENTS)][-1]
        assert (second["first"], second["last"], second["commits"]) == (21, 25, 25)
        assert store.check() == []


def test_what_was_recorded_and_cut_off_is_carried_out(
    location: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = HistoryPolicy(hot_duration=NOW, delete_after=7 * DAY)
    with filled(location, clock) as store:
        manager = HistoryManager(store, policy)

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(retiring, "Retire", killed)
            with pytest.raises(KeyboardInterrupt):
                manager.age(allow_loss=True)
        assert (manager.status()).retired == 0
        assert (store.stream(RETIREMENTS)) is not None
        assert moved(HistoryManager(store, policy).age())[0] == ("retired", 20)
        assert len([event for event in store.read(RETIREMENTS)]) == 1


def test_an_archive_that_does_not_answer_is_seen(
    location: str, tmp_path: Path, clock: ManualClock
) -> None:
    (tmp_path / "far").write_text("a file where a folder should be")
    policy = HistoryPolicy(hot_duration=NOW, archive_after=NOW)
    with filled(location, clock) as store:
        manager = HistoryManager(store, policy, archive=tmp_path / "far")
        with pytest.raises(Exception, match="far: can't make"):
            manager.age()
        status = manager.status()
        assert status.last_error is not None
        assert "far: can't make" in status.last_error
        assert all(one.is_cold for one in status.segments)
        (tmp_path / "far").unlink()
        assert len(manager.age()) == 20
        assert (manager.status()).last_error is None
        with pytest.raises(DeclarationError, match="needs an archive"):
            HistoryManager(store, policy)
