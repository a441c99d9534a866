"""Old history is sealed as a policy says, and is the same history afterwards."""

from __future__ import annotations

import random
import string
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from everwhen.aio import (
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
from everwhen.merkle.aio import MemoryTiles, MerkleLog
from everwhen.testing import ManualClock
from everwhen.tiers import HeldBack, HistoryPlan, HistoryPolicy, MovedSegment, SegmentSize
from everwhen.tiers.aio import HistoryManager
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


async def filled(path: Path | str, clock: ManualClock, days: int = 10) -> Store:
    """A store in which something is paid each day, five times."""
    store = await open_store(path, events=[Paid], clock=clock)
    for day in range(days):
        for number in range(5):
            await store.append(f"order-{number % 2}", [Paid(f"p{number}", day)])
        clock.advance(DAY.total_seconds())
    return store


async def test_what_is_old_enough_is_sealed(location: str, clock: ManualClock) -> None:
    async with await filled(location, clock) as store:
        seen: list[MovedSegment] = []
        policy = HistoryPolicy(hot_duration=4 * DAY, small_segments=True)
        manager = HistoryManager(store, policy)
        assert await manager.plan() == HistoryPlan((1, 35))
        made = await manager.age(seen.append)
        assert (made, (await manager.plan()).events) == (seen, 0)
        status = await manager.status()
        assert (status.sealed, status.head, status.sealed_slices) == (35, 50, 35)
        assert status.size == sum(moved.segment.size for moved in made) > 0
        assert await manager.age() == []
        clock.advance(DAY.total_seconds())
        assert (await manager.plan()).seal == (36, 40)
        assert [moved.segment.first for moved in await manager.age()] == [36]
        assert await store.check() == []


async def test_a_backup_ends_where_the_store_does(tmp_path: Path, clock: ManualClock) -> None:
    async with await filled(tmp_path / "s.db", clock) as store:
        policy = HistoryPolicy(hot_duration=timedelta(0), small_segments=True)
        await HistoryManager(store, policy).age()
        made = await store.backup(tmp_path / "copy.db")
        head = await store.head()
    assert (made.position, made.recorded_at) == (50, head.recorded_at), "though all is sealed"
    async with await open_store(tmp_path / "copy.db", events=[Paid]) as copy:
        assert await copy.head() == head


async def test_it_is_the_same_history(location: str, clock: ManualClock) -> None:
    async with await filled(location, clock) as store:
        machine = TimeMachine(store, total, "order-1")

        async def seen() -> list[object]:
            return [
                [event async for event in store.read()],
                [event async for event in store.read(Query().tags("by:p3").backwards())],
                await store.fold(total, "order-1", at=clock() - 5 * DAY),
                [await store.position_at(clock() - n * DAY) for n in range(12)],
                await machine.travel_to(7),
                [info async for info in store.streams()],
            ]

        before = await seen()
        await HistoryManager(store, HistoryPolicy(hot_duration=DAY, small_segments=True)).age()
        assert await seen() == before
        assert await store.check() == []


async def test_a_segment_waits_until_it_is_full(location: str, clock: ManualClock) -> None:
    async with await filled(location, clock) as store:
        manager = HistoryManager(store, HistoryPolicy(hot_duration=timedelta()))
        assert await manager.plan() == HistoryPlan(None)
        assert await manager.age() == []
        size = SegmentSize(slices=20, least=20)
        backend = store.kernel.backend
        sealed = [await backend.move(Seal(50, size)) for _ in range(3)]
        assert [segment and segment.last for segment in sealed] == [20, 40, None]


@pytest.mark.parametrize(
    "wrong", [{"slices": 0}, {"least": -1}, {"frame": 0}, {"frames": 257}, {"frame_bytes": 0}]
)
def test_numbers_that_make_no_segment_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(DeclarationError, match="from 1 on, and at most 256 frames"):
        SegmentSize(**wrong)


async def test_a_segment_of_large_slices_ends_early_and_a_large_commit_is_never_cut(
    location: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_packing, "_SEGMENT_BYTES", 1_000)
    async with await open_store(location, events=[Paid], clock=clock) as store:
        for number in range(4):
            await store.append(f"order-{number}", [Paid("x" * 300, 1)])
        await store.commit(Commit([Write(f"order-{n}", [Paid("x" * 300, 1)]) for n in range(9)]))
        policy = HistoryPolicy(hot_duration=timedelta())
        moved = await HistoryManager(store, policy).age()
        assert [(one.how, one.segment.last) for one in moved] == [
            ("sealed", 2), ("sealed", 4), ("sealed", 13)
        ]  # fmt: skip
        backend = store.kernel.backend
        assert [segment.slices for segment in await backend.segments()] == [2, 2, 9]
        assert await store.check() == []


async def test_nothing_moves_that_no_duration_asks_for(location: str, clock: ManualClock) -> None:
    async with await filled(location, clock) as store:
        manager = HistoryManager(store, HistoryPolicy())
        assert await manager.plan() == HistoryPlan(None)
        assert await manager.age() == []
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


async def test_what_a_category_keeps_holds_back_what_comes_after(
    location: str, clock: ManualClock
) -> None:
    own = {"audit": HistoryPolicy(hot_duration=9 * DAY), "empty": HistoryPolicy()}
    policy = HistoryPolicy(hot_duration=DAY, small_segments=True, per_category=own)
    own["order"] = HistoryPolicy(hot_duration=99 * DAY)  # which is too late
    assert policy.of_category("audit").hot_duration == 9 * DAY
    assert policy.of_category("empty") == policy.of_category("order")
    async with await filled(location, clock, days=3) as store:  # 15 events
        manager = HistoryManager(store, policy)
        await store.commit(  # a commit that isn't cut
            Commit([Write("order-1", [Paid("p1", 1)] * 2), Write("audit-1", [Paid("p2", 1)] * 3)])
        )
        await store.append("order-1", [Paid("p1", 1)])
        await store.append("audit-2", [Paid("p1", 1)])
        clock.advance(4 * DAY.total_seconds())
        plan = await manager.plan()
        assert (plan.seal, plan.held) == ((1, 17), (HeldBack("seal", "audit", 18),))
        assert [(one.segment.first, one.segment.last) for one in await manager.age()] == [(1, 15)]
        assert await manager.age() == []
        clock.advance(5 * DAY.total_seconds())
        assert await manager.plan() == HistoryPlan((16, 22))
        assert [(one.segment.first, one.segment.last) for one in await manager.age()] == [(16, 22)]
        assert await store.check() == []


@pytest.mark.parametrize("seed", range(6))
async def test_the_border_is_where_all_categories_agree(
    location: str, clock: ManualClock, seed: int
) -> None:
    """Against the definition: the events before the first one that its category keeps."""
    chance = random.Random(seed)
    names = ["a", "b", "c", "d"]
    async with await open_store(location, events=[Paid], clock=clock) as store:
        for _ in range(300):
            name = names[0] if chance.random() < 0.7 else chance.choice(names)
            await store.append(f"{name}-1", [Paid("p1", 1)])
            clock.advance(chance.choice((0, 600, 3_600)))
        events = [event async for event in store.read()]
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
            due = sealed = (await HistoryManager(store, policy).status()).sealed
            for event in events[sealed:]:
                if event.recorded_at > now - days.get(event.stream[0], default):
                    break
                due = event.position
            plan = await HistoryManager(store, policy).plan()
            assert plan.seal == ((sealed + 1, due) if due > sealed else None)
            for one in plan.held:
                held = events[one.position - 1]
                assert held.stream[0] == one.category
                assert one.position > sealed
            if chance.random() < 0.5:
                await HistoryManager(store, policy).age()
                assert (await HistoryManager(store, policy).status()).sealed == due


async def test_what_progress_raises_ends_it_between_two_segments(
    location: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
    monkeypatch.setattr(HistoryPolicy, "segment_size", SegmentSize(slices=10))

    def enough(moved: MovedSegment) -> None:
        if moved.segment.last == 20:
            raise KeyError(moved.how)

    async with await filled(location, clock) as store:
        manager = HistoryManager(store, policy)
        with pytest.raises(KeyError):
            await manager.age(enough)
        assert (await manager.status()).sealed == 20
        assert len(await manager.age()) == 3
        assert await store.check() == []


async def test_where_history_cannot_be_sealed_it_is_told(location: str, clock: ManualClock) -> None:
    policy = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
    async with await filled("memory:", clock, 1) as store:
        manager = HistoryManager(store, policy)
        assert (await manager.status()).segments == ()
        with pytest.raises(UnsupportedError, match="in memory"):
            await manager.age()
    async with await filled(location, clock, 1) as store:
        await store.create_branch("what-if")
        async with await store.branch("what-if") as branch:
            with pytest.raises(UnsupportedError, match="history of the store"):
                await HistoryManager(branch, policy).age()
    async with await open_store(location, read_only=True) as store:
        with pytest.raises(ReadOnlyError):
            await HistoryManager(store, policy).age()


async def test_an_older_store_is_sealed_in_place_and_read_only_afterwards(
    tmp_path: Path, clock: ManualClock
) -> None:
    path = tmp_path / "s.db"
    async with await filled(path, clock) as store:
        events = [event async for event in store.read()]
        await HistoryManager(
            store, HistoryPolicy(hot_duration=timedelta(), small_segments=True)
        ).age()
        with store.sql_connection() as connection:
            asked = "SELECT count(*), sum(data ->> 'amount') FROM events WHERE position > 10"
            assert connection.execute(asked).fetchall() == [(40, 220)]
    async with await open_store(path, events=[Paid], read_only=True) as store:
        assert [event async for event in store.read()] == events
        assert await store.check() == []


async def test_what_was_signed_stays_proven(location: str, clock: ManualClock) -> None:
    policy = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
    signer = Signer.generate("example.org/shop")
    verifying = Policy.parse(f"log {signer.verifier.vkey}\nquorum none\n".encode())
    async with await filled(location, clock) as store:
        log = MerkleLog(store, MemoryTiles(), signer)
        before = await log.sign()
        proofs = [(await log.prove(position)).encode() for position in (1, 17, 50)]
        await HistoryManager(store, policy).age()
        await store.append("order-1", [Paid("p9", 1)])
        after = await log.sign()
        assert (before.checkpoint.size, after.checkpoint.size) == (50, 51)
        report = await log.verify()
        assert (report.fault, report.verified) == (None, 51)
        again = [(await log.prove(position)) for position in (1, 17, 50)]
        for proof in (*proofs, *(proof.encode() for proof in again)):
            assert verify(parse_proof(proof), verifying).entry.slices
        whole = [event async for event in store.read()]
        assert [event async for event in store.read(proven=log)] == whole


async def test_the_largest_events_are_sealed(location: str, clock: ManualClock) -> None:
    letters = "".join(random.Random(1).choices(string.ascii_letters, k=MAX_EVENT_BYTES - 100))
    async with await open_store(location, events=[Paid], clock=clock) as store:
        for _ in range(3):
            await store.append("order-1", [Paid(letters[:9], 1)] * 3)
            await store.append("order-2", [UnknownEvent("Large", {"text": letters})])
        events = [event async for event in store.read()]
        policy = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
        await HistoryManager(store, policy).age()
        assert [event async for event in store.read()] == events
        assert [event.data for event in events] == [
            event.data async for event in store.read(Query())
        ]
        assert await store.check() == []


async def test_the_view_of_events_shows_the_same(tmp_path: Path, clock: ManualClock) -> None:
    asked = "SELECT * FROM events ORDER BY position"
    async with await filled(tmp_path / "s.db", clock) as store:
        for hot_duration in (5 * DAY, timedelta()):
            with store.sql_connection() as connection:
                columns = connection.execute(asked).description
                before = connection.execute(asked).fetchall()
            policy = HistoryPolicy(hot_duration=hot_duration, small_segments=True)
            await HistoryManager(store, policy).age()
            with store.sql_connection() as connection:
                assert connection.execute(asked).description == columns
                assert connection.execute(asked).fetchall() == before


async def test_branches_rest_on_sealed_history(location: str, clock: ManualClock) -> None:
    async with await filled(location, clock) as store:
        await store.create_branch("then", at=20)
        async with await store.branch("then") as branch:
            expected = [event async for event in branch.read()]
            policy = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
            await HistoryManager(store, policy).age()
            assert [event async for event in branch.read()] == expected
            receipt = await branch.append("order-1", [Paid("p9", 1)])
            assert receipt.position == 21
            assert await branch.check() == []


async def test_the_file_gets_smaller_and_nothing_is_deleted(
    tmp_path: Path, clock: ManualClock
) -> None:
    path = tmp_path / "s.db"
    signer = Signer.generate("example.org/shop")
    async with await filled(path, clock, days=40) as store:
        log = MerkleLog(store, MemoryTiles(), signer)
        signed = await log.sign()
        proof = (await log.prove(17)).encode()
        async with store.transaction() as transaction:
            await transaction.save_checkpoint(Checkpoint("mine", 9, b"kept"))
        await TimeMachine(store, total, "order-1").travel_to(100)
        events = [event async for event in store.read()]
        snapshots = await store.snapshots("order-1")
        manager = HistoryManager(store, HistoryPolicy(hot_duration=DAY, small_segments=True))
        await manager.age()
        told: list[tuple[int, int]] = []
        made = await manager.compact(lambda *bytes_: told.append(bytes_))
        assert made.size_after == path.stat().st_size
        assert made.freed == made.size_before - made.size_after > 0
        assert told
        assert all(0 < done <= of for done, of in told)
        assert (await manager.compact()).freed == 0
        assert [event async for event in store.read()] == events
        assert await store.snapshots("order-1") == snapshots
        assert await store.checkpoint("mine") == Checkpoint("mine", 9, b"kept")
        assert (await log.sign()).checkpoint.root == signed.checkpoint.root
        verifying = Policy.parse(f"log {signer.verifier.vkey}\nquorum none\n".encode())
        assert verify(parse_proof(proof), verifying).entry.slices
        assert (await log.verify()).fault is None
        assert await store.check() == []


async def test_what_progress_raises_ends_compacting_between_two_steps(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_FIRST_PAGES", 1)

    def enough(done: int, total: int) -> None:
        raise KeyError(total - done)

    async with await filled(tmp_path / "s.db", clock, days=40) as store:
        manager = HistoryManager(store, HistoryPolicy(hot_duration=DAY, small_segments=True))
        await manager.age()
        with pytest.raises(KeyError) as left:
            await manager.compact(enough)
        assert left.value.args[0] > 0
        assert (await manager.compact()).freed > 0
        assert await store.check() == []


async def test_where_a_file_cannot_be_compacted_it_is_told(
    tmp_path: Path, clock: ManualClock
) -> None:
    policy = HistoryPolicy()
    async with await filled("memory:", clock, 1) as store:
        with pytest.raises(UnsupportedError, match="in memory has no file"):
            await HistoryManager(store, policy).compact()
    async with await filled(tmp_path / "s.db", clock, 1) as store:
        await store.create_branch("what-if")
        async with await store.branch("what-if") as branch:
            await branch.append("order-1", [Paid("p9", 1)])
            size = (await HistoryManager(branch, policy).compact()).size_after
            (own,) = (tmp_path / "s.db-branches").glob("*.db")
            assert size == own.stat().st_size
        async with store.transaction():
            with pytest.raises(UnsupportedError, match="compacting can't begin inside"):
                await HistoryManager(store, policy).compact()
    async with await open_store(tmp_path / "s.db", read_only=True) as store:
        with pytest.raises(ReadOnlyError):
            await HistoryManager(store, policy).compact()
