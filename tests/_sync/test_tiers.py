# Generated from tests/_async/test_tiers.py by tools/unasync.py: edit that, then run `make sync`.
"""Old history is sealed as a policy says, and is the same history afterwards."""

from __future__ import annotations

import random
import string
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from everwhen import (
    Commit,
    Event,
    Fold,
    Query,
    Store,
    TimeMachine,
    UnknownEvent,
    Write,
    open_store,
)
from everwhen.backends import segment_packing
from everwhen.backends.sqlite import compaction
from everwhen.errors import DeclarationError, ReadOnlyError, UnsupportedError
from everwhen.merkle import MemoryTiles, MerkleLog
from everwhen.testing import ManualClock
from everwhen.tiers import (
    HeldBack,
    HistoryManager,
    HistoryPlan,
    HistoryPolicy,
    MovedSegment,
    SegmentSize,
)
from everwhen.vocabulary.contract import MAX_EVENT_BYTES, Checkpoint, Seal
from everwhen_verify.notes import Signer
from everwhen_verify.policy import Policy
from everwhen_verify.proofs import parse_proof, verify

DAY = timedelta(days=1)


class Paid(Event):
    tag_fields = ("by",)

    by: str
    amount: int


total = Fold("total", int)


@total.on(Paid)
def _(state: int, event: Paid) -> int:
    return state + event.amount


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def filled(path: Path | str, clock: ManualClock, days: int = 10) -> Store:
    """A store in which something is paid each day, five times."""
    store = open_store(path, events=[Paid], clock=clock)
    for day in range(days):
        for number in range(5):
            store.append(f"order-{number % 2}", [Paid(f"p{number}", day)])
        clock.advance(DAY.total_seconds())
    return store


def test_what_is_old_enough_is_sealed(location: str, clock: ManualClock) -> None:
    with filled(location, clock) as store:
        seen: list[MovedSegment] = []
        policy = HistoryPolicy(hot_duration=4 * DAY, small_segments=True)
        manager = HistoryManager(store, policy)
        assert manager.plan() == HistoryPlan((1, 35))
        made = manager.age(seen.append)
        assert (made, (manager.plan()).events) == (seen, 0)
        status = manager.status()
        assert (status.sealed, status.head, status.sealed_slices) == (35, 50, 35)
        assert status.size == sum(moved.segment.size for moved in made) > 0
        assert manager.age() == []
        clock.advance(DAY.total_seconds())
        assert (manager.plan()).seal == (36, 40)
        assert [moved.segment.first for moved in manager.age()] == [36]
        assert store.check() == []


def test_a_backup_ends_where_the_store_does(tmp_path: Path, clock: ManualClock) -> None:
    with filled(tmp_path / "s.db", clock) as store:
        policy = HistoryPolicy(hot_duration=timedelta(0), small_segments=True)
        HistoryManager(store, policy).age()
        made = store.backup(tmp_path / "copy.db")
        head = store.head()
    assert (made.position, made.recorded_at) == (50, head.recorded_at), "though all is sealed"
    with open_store(tmp_path / "copy.db", events=[Paid]) as copy:
        assert copy.head() == head


def test_it_is_the_same_history(location: str, clock: ManualClock) -> None:
    with filled(location, clock) as store:
        machine = TimeMachine(store, total, "order-1")

        def seen() -> list[object]:
            return [
                [event for event in store.read()],
                [event for event in store.read(Query().tags("by:p3").backwards())],
                store.fold(total, "order-1", at=clock() - 5 * DAY),
                [store.position_at(clock() - n * DAY) for n in range(12)],
                machine.travel_to(7),
                [info for info in store.streams()],
            ]

        before = seen()
        HistoryManager(store, HistoryPolicy(hot_duration=DAY, small_segments=True)).age()
        assert seen() == before
        assert store.check() == []


def test_a_segment_waits_until_it_is_full(location: str, clock: ManualClock) -> None:
    with filled(location, clock) as store:
        manager = HistoryManager(store, HistoryPolicy(hot_duration=timedelta()))
        assert manager.plan() == HistoryPlan(None)
        assert manager.age() == []
        size = SegmentSize(slices=20, least=20)
        backend = store.kernel.backend
        sealed = [backend.move(Seal(50, size)) for _ in range(3)]
        assert [segment and segment.last for segment in sealed] == [20, 40, None]


@pytest.mark.parametrize(
    "wrong", [{"slices": 0}, {"least": -1}, {"frame": 0}, {"frames": 257}, {"frame_bytes": 0}]
)
def test_numbers_that_make_no_segment_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(DeclarationError, match="from 1 on, and at most 256 frames"):
        SegmentSize(**wrong)


def test_a_segment_of_large_slices_ends_early_and_a_large_commit_is_never_cut(
    location: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_packing, "_SEGMENT_BYTES", 1_000)
    with open_store(location, events=[Paid], clock=clock) as store:
        for number in range(4):
            store.append(f"order-{number}", [Paid("x" * 300, 1)])
        store.commit(Commit([Write(f"order-{n}", [Paid("x" * 300, 1)]) for n in range(9)]))
        policy = HistoryPolicy(hot_duration=timedelta())
        moved = HistoryManager(store, policy).age()
        assert [(one.how, one.segment.last) for one in moved] == [
            ("sealed", 2), ("sealed", 4), ("sealed", 13)
        ]  # fmt: skip
        backend = store.kernel.backend
        assert [segment.slices for segment in backend.segments()] == [2, 2, 9]
        assert store.check() == []


def test_nothing_moves_that_no_duration_asks_for(location: str, clock: ManualClock) -> None:
    with filled(location, clock) as store:
        manager = HistoryManager(store, HistoryPolicy())
        assert manager.plan() == HistoryPlan(None)
        assert manager.age() == []
    with pytest.raises(DeclarationError, match="hot_duration"):
        HistoryPolicy(hot_duration=-DAY)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"audit-1": HistoryPolicy()}, "no category has a '-'"),
        ({"": HistoryPolicy()}, "non-empty text"),
        ({3: HistoryPolicy()}, "non-empty text"),
        ({"audit": DAY}, "expected a HistoryPolicy"),
        ({"audit": HistoryPolicy(small_segments=True)}, "for all of a store"),
        (
            {"audit": HistoryPolicy(hot_duration=DAY, per_category={"a": HistoryPolicy()})},
            "for all of a store",
        ),
    ],
)
def test_policies_that_a_category_cannot_have(wrong: Any, why: str) -> None:
    with pytest.raises(DeclarationError, match=why):
        HistoryPolicy(hot_duration=DAY, per_category=wrong)
    with pytest.raises(DeclarationError, match="the policy itself has none"):
        HistoryPolicy(per_category={"audit": HistoryPolicy(hot_duration=DAY)})


def test_what_a_category_keeps_holds_back_what_comes_after(
    location: str, clock: ManualClock
) -> None:
    own = {"audit": HistoryPolicy(hot_duration=9 * DAY), "empty": HistoryPolicy()}
    policy = HistoryPolicy(hot_duration=DAY, small_segments=True, per_category=own)
    own["order"] = HistoryPolicy(hot_duration=99 * DAY)  # which is too late
    assert policy.of_category("audit").hot_duration == 9 * DAY
    assert policy.of_category("empty") == policy.of_category("order")
    with filled(location, clock, days=3) as store:  # 15 events
        manager = HistoryManager(store, policy)
        store.commit(  # a commit that isn't cut
            Commit([Write("order-1", [Paid("p1", 1)] * 2), Write("audit-1", [Paid("p2", 1)] * 3)])
        )
        store.append("order-1", [Paid("p1", 1)])
        store.append("audit-2", [Paid("p1", 1)])
        clock.advance(4 * DAY.total_seconds())
        plan = manager.plan()
        assert (plan.seal, plan.held) == ((1, 17), (HeldBack("seal", "audit", 18),))
        assert [(one.segment.first, one.segment.last) for one in manager.age()] == [(1, 15)]
        assert manager.age() == []
        clock.advance(5 * DAY.total_seconds())
        assert manager.plan() == HistoryPlan((16, 22))
        assert [(one.segment.first, one.segment.last) for one in manager.age()] == [(16, 22)]
        assert store.check() == []


@pytest.mark.parametrize("seed", range(6))
def test_the_border_is_where_all_categories_agree(
    location: str, clock: ManualClock, seed: int
) -> None:
    """Against the definition: the events before the first one that its category keeps."""
    chance = random.Random(seed)
    names = ["a", "b", "c", "d"]
    with open_store(location, events=[Paid], clock=clock) as store:
        for _ in range(300):
            name = names[0] if chance.random() < 0.7 else chance.choice(names)
            store.append(f"{name}-1", [Paid("p1", 1)])
            clock.advance(chance.choice((0, 600, 3_600)))
        events = [event for event in store.read()]
        for _ in range(8):
            days = {name: chance.random() * 9 * DAY for name in chance.sample(names, 2)}
            default = chance.random() * 9 * DAY
            policy = HistoryPolicy(
                hot_duration=default,
                small_segments=True,
                per_category={
                    name: HistoryPolicy(hot_duration=duration) for name, duration in days.items()
                },
            )
            now = clock()
            due = sealed = (HistoryManager(store, policy).status()).sealed
            for event in events[sealed:]:
                if event.recorded_at > now - days.get(event.stream[0], default):
                    break
                due = event.position
            plan = HistoryManager(store, policy).plan()
            assert plan.seal == ((sealed + 1, due) if due > sealed else None)
            for one in plan.held:
                held = events[one.position - 1]
                assert held.stream[0] == one.category
                assert one.position > sealed
            if chance.random() < 0.5:
                HistoryManager(store, policy).age()
                assert (HistoryManager(store, policy).status()).sealed == due


def test_what_progress_raises_ends_it_between_two_segments(
    location: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
    monkeypatch.setattr(HistoryPolicy, "segment_size", SegmentSize(slices=10))

    def enough(moved: MovedSegment) -> None:
        if moved.segment.last == 20:
            raise KeyError(moved.how)

    with filled(location, clock) as store:
        manager = HistoryManager(store, policy)
        with pytest.raises(KeyError):
            manager.age(enough)
        assert (manager.status()).sealed == 20
        assert len(manager.age()) == 3
        assert store.check() == []


def test_where_history_cannot_be_sealed_it_is_told(location: str, clock: ManualClock) -> None:
    policy = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
    with filled("memory:", clock, 1) as store:
        manager = HistoryManager(store, policy)
        assert (manager.status()).segments == ()
        with pytest.raises(UnsupportedError, match="in memory"):
            manager.age()
    with filled(location, clock, 1) as store:
        store.create_branch("what-if")
        with store.branch("what-if") as branch:
            with pytest.raises(UnsupportedError, match="history of the store"):
                HistoryManager(branch, policy).age()
    with open_store(location, read_only=True) as store:
        with pytest.raises(ReadOnlyError):
            HistoryManager(store, policy).age()


def test_an_older_store_is_sealed_in_place_and_read_only_afterwards(
    tmp_path: Path, clock: ManualClock
) -> None:
    path = tmp_path / "s.db"
    with filled(path, clock) as store:
        events = [event for event in store.read()]
        HistoryManager(store, HistoryPolicy(hot_duration=timedelta(), small_segments=True)).age()
        with store.sql_connection() as connection:
            asked = "SELECT count(*), sum(data ->> 'amount') FROM events WHERE position > 10"
            assert connection.execute(asked).fetchall() == [(40, 220)]
    with open_store(path, events=[Paid], read_only=True) as store:
        assert [event for event in store.read()] == events
        assert store.check() == []


def test_what_was_signed_stays_proven(location: str, clock: ManualClock) -> None:
    policy = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
    signer = Signer.generate("example.org/shop")
    verifying = Policy.parse(f"log {signer.verifier.vkey}\nquorum none\n".encode())
    with filled(location, clock) as store:
        log = MerkleLog(store, MemoryTiles(), signer)
        before = log.sign()
        proofs = [(log.prove(position)).encode() for position in (1, 17, 50)]
        HistoryManager(store, policy).age()
        store.append("order-1", [Paid("p9", 1)])
        after = log.sign()
        assert (before.checkpoint.size, after.checkpoint.size) == (50, 51)
        report = log.verify()
        assert (report.fault, report.verified) == (None, 51)
        again = [(log.prove(position)) for position in (1, 17, 50)]
        for proof in (*proofs, *(proof.encode() for proof in again)):
            assert verify(parse_proof(proof), verifying).entry.slices
        whole = [event for event in store.read()]
        assert [event for event in store.read(proven=log)] == whole


def test_the_largest_events_are_sealed(location: str, clock: ManualClock) -> None:
    letters = "".join(random.Random(1).choices(string.ascii_letters, k=MAX_EVENT_BYTES - 100))
    with open_store(location, events=[Paid], clock=clock) as store:
        for _ in range(3):
            store.append("order-1", [Paid(letters[:9], 1)] * 3)
            store.append("order-2", [UnknownEvent("Large", {"text": letters})])
        events = [event for event in store.read()]
        policy = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
        HistoryManager(store, policy).age()
        assert [event for event in store.read()] == events
        assert [event.data for event in events] == [event.data for event in store.read(Query())]
        assert store.check() == []


def test_the_view_of_events_shows_the_same(tmp_path: Path, clock: ManualClock) -> None:
    asked = "SELECT * FROM events ORDER BY position"
    with filled(tmp_path / "s.db", clock) as store:
        for hot_duration in (5 * DAY, timedelta()):
            with store.sql_connection() as connection:
                columns = connection.execute(asked).description
                before = connection.execute(asked).fetchall()
            policy = HistoryPolicy(hot_duration=hot_duration, small_segments=True)
            HistoryManager(store, policy).age()
            with store.sql_connection() as connection:
                assert connection.execute(asked).description == columns
                assert connection.execute(asked).fetchall() == before


def test_branches_rest_on_sealed_history(location: str, clock: ManualClock) -> None:
    with filled(location, clock) as store:
        store.create_branch("then", at=20)
        with store.branch("then") as branch:
            expected = [event for event in branch.read()]
            policy = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
            HistoryManager(store, policy).age()
            assert [event for event in branch.read()] == expected
            receipt = branch.append("order-1", [Paid("p9", 1)])
            assert receipt.position == 21
            assert branch.check() == []


def test_the_file_gets_smaller_and_nothing_is_deleted(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "s.db"
    signer = Signer.generate("example.org/shop")
    with filled(path, clock, days=40) as store:
        log = MerkleLog(store, MemoryTiles(), signer)
        signed = log.sign()
        proof = (log.prove(17)).encode()
        with store.transaction() as transaction:
            transaction.save_checkpoint(Checkpoint("mine", 9, b"kept"))
        TimeMachine(store, total, "order-1").travel_to(100)
        events = [event for event in store.read()]
        snapshots = store.snapshots("order-1")
        manager = HistoryManager(store, HistoryPolicy(hot_duration=DAY, small_segments=True))
        manager.age()
        told: list[tuple[int, int]] = []
        made = manager.compact(lambda *bytes_: told.append(bytes_))
        assert made.size_after == path.stat().st_size
        assert made.freed == made.size_before - made.size_after > 0
        assert told
        assert all(0 < done <= of for done, of in told)
        assert (manager.compact()).freed == 0
        assert [event for event in store.read()] == events
        assert store.snapshots("order-1") == snapshots
        assert store.checkpoint("mine") == Checkpoint("mine", 9, b"kept")
        assert (log.sign()).checkpoint.root == signed.checkpoint.root
        verifying = Policy.parse(f"log {signer.verifier.vkey}\nquorum none\n".encode())
        assert verify(parse_proof(proof), verifying).entry.slices
        assert (log.verify()).fault is None
        assert store.check() == []


def test_what_progress_raises_ends_compacting_between_two_steps(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_FIRST_PAGES", 1)

    def enough(done: int, total: int) -> None:
        raise KeyError(total - done)

    with filled(tmp_path / "s.db", clock, days=40) as store:
        manager = HistoryManager(store, HistoryPolicy(hot_duration=DAY, small_segments=True))
        manager.age()
        with pytest.raises(KeyError) as left:
            manager.compact(enough)
        assert left.value.args[0] > 0
        assert (manager.compact()).freed > 0
        assert store.check() == []


def test_where_a_file_cannot_be_compacted_it_is_told(tmp_path: Path, clock: ManualClock) -> None:
    policy = HistoryPolicy()
    with filled("memory:", clock, 1) as store:
        with pytest.raises(UnsupportedError, match="in memory has no file"):
            HistoryManager(store, policy).compact()
    with filled(tmp_path / "s.db", clock, 1) as store:
        store.create_branch("what-if")
        with store.branch("what-if") as branch:
            branch.append("order-1", [Paid("p9", 1)])
            size = (HistoryManager(branch, policy).compact()).size_after
            (own,) = (tmp_path / "s.db-branches").glob("*.db")
            assert size == own.stat().st_size
        with store.transaction():
            with pytest.raises(UnsupportedError, match="compacting can't begin inside"):
                HistoryManager(store, policy).compact()
    with open_store(tmp_path / "s.db", read_only=True) as store:
        with pytest.raises(ReadOnlyError):
            HistoryManager(store, policy).compact()
