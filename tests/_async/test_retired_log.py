"""A log of which the beginning was retired: the rest is proven, and nothing is taken for it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from everwhen.aio import Commit, Query, Store, UnknownEvent, Write, open_store
from everwhen.codec.slice_bodies import decode_entries
from everwhen.errors import MerkleLogError, RetiredError, TamperedError, UnprovenError
from everwhen.merkle.aio import Fault, FaultKind, MemoryTiles, MerkleLog, RetiredHistory
from everwhen.store.retirement_records import RETIREMENTS, HistoryRetired
from everwhen.tiers._async.retiring import finished, retired, surveyed
from everwhen.vocabulary.contract import EncodedCommit, Retire, Seal, SegmentSize
from everwhen_verify.merkle import check_consistency
from everwhen_verify.notes import Signer
from everwhen_verify.policy import Policy
from everwhen_verify.proofs import parse_proof, verify
from everwhen_verify.tiles import tile_path

SIGNER = Signer.generate("example.org/log")
POLICY = Policy.parse(f"log {SIGNER.verifier.vkey}\nquorum none\n".encode())
SIZE = SegmentSize(slices=100, frame=16, frames=2)
COMMITS = 600


def a_commit(number: int) -> Commit:
    """Every third has two slices, of two events and of one."""
    first = Write(f"s-{number % 5}", [UnknownEvent("Noted", {"n": number})] * (1 + number % 2))
    more = [Write("all", [UnknownEvent("Noted", {"n": number})])] if number % 3 == 0 else []
    return Commit([first, *more])


async def filled(path: Path | str, commits: int = COMMITS) -> Store:
    store = await open_store(path)
    await store.commit_batch([a_commit(number) for number in range(commits)])
    return store


async def sealed(store: Store, slices: SegmentSize = SIZE) -> list[int]:
    """Where the segments end."""
    backend = store.kernel.backend
    last = (await store.head()).position
    while await backend.move(Seal(last, slices)) is not None:
        pass
    return [segment.last for segment in await backend.segments()]


async def retire(store: Store, last: int) -> None:
    await retired(store, *await surveyed(store, last))


async def some_log(path: Path, tiles: MemoryTiles, segments: int = 5) -> tuple[Store, int]:
    """A signed store of 600 commits, of which some segments of 100 slices are retired.

    And the position up to which they are; their record is signed, and not the newest commit.
    """
    store = await filled(path)
    log = MerkleLog(store, tiles, SIGNER)
    await log.sign()
    last = (await sealed(store))[segments - 1]
    await retire(store, last)
    await store.append("later", [UnknownEvent("Noted", {"n": 0})])
    await log.sign()
    return store, last


def recorded_by(commit: EncodedCommit) -> HistoryRetired:
    (entry,) = decode_entries(commit.slices[0].body)
    return msgspec.json.decode(entry.data, type=HistoryRetired)


async def fault_of(store: Store, tiles: MemoryTiles, **given: Any) -> Fault:
    fault = (await MerkleLog(store, tiles, SIGNER).verify(**given)).fault
    assert fault is not None
    return fault


def change(path: Path, *statements: str) -> None:
    """Change the file past us."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("segments", [1, 3, 5, 7, 8])  # in the first, second or last tile, or all
async def test_it_is_retired_and_not_damaged(location: str, segments: int) -> None:
    tiles = MemoryTiles()
    async with await filled(location) as store:
        log = MerkleLog(store, tiles, SIGNER)
        for until in (100, COMMITS):
            await store.commit_batch([a_commit(number) for number in range(until - 100)])
            before = await log.sign()
        ends = await sealed(store)
        last = ends[segments - 1] if segments < 8 else ends[-1]
        survey, retirement = await surveyed(store, last)
        await retired(store, survey, retirement)
        record = (await store.head()).position
        report = await log.verify()
        assert report.fault is None
        assert report.retired is not None
        commits = report.retired.commits
        (recorded,) = [event async for event in store.read(RETIREMENTS)]
        assert report.retired == RetiredHistory(
            last, commits, record, recorded.recorded_at, is_signed=False
        )
        size = before.checkpoint.size
        assert (report.size, report.verified, report.unsigned) == (size, size - commits, 1)
        await log.sign()
        for again in (log, MerkleLog(store, tiles, SIGNER)):
            await store.append("s-1", [UnknownEvent("Noted", {"n": 0})])
            after = await again.sign()
            report = await again.verify()
            assert report.fault is None
            assert report.retired is not None
            assert (report.retired.is_signed, report.unsigned) == (True, 0)
            assert report.verified == after.checkpoint.size - commits


async def test_what_was_signed_before_stays_proven(location: str) -> None:
    tiles = MemoryTiles()
    async with await filled(location, 150) as store:
        log = MerkleLog(store, tiles, SIGNER)
        early = await log.sign()
        proofs = [(await log.prove(position)).encode() for position in range(1, 150, 10)]
        await store.commit_batch([a_commit(number) for number in range(450)])
        late = await log.sign()
        last = (await sealed(store))[4]
        await retire(store, last)
        newest = await log.sign()
        for proof in proofs:
            assert verify(parse_proof(proof), POLICY).entry.slices is not None
        for old, new in ((early, late), (early, newest), (late, newest)):
            a, b = old.checkpoint, new.checkpoint
            path = await log.consistency(a.size, b.size)
            check_consistency(a.size, a.root, b.size, b.root, path)
        for given in ({"remembered": [early.note, late.note]}, {"since": early.note}):
            report = await log.verify(**given)
            assert report.fault is None
            assert report.retired is not None
            assert report.retired.last == last
        report = await log.verify(since=newest.note)
        assert (report.fault, report.verified) == (None, newest.checkpoint.size - 512)
        assert report.retired is not None
        assert report.retired.is_signed
        for position in range(1, (await store.head()).position + 1, 7):
            if position <= last:
                with pytest.raises(MerkleLogError, match=f"up to position {last} was retired"):
                    await log.prove(position)
                continue
            slices = verify(parse_proof((await log.prove(position)).encode()), POLICY).entry.slices
            assert slices is not None
            assert slices[0].position - slices[0].count < position <= slices[-1].position


async def test_several_retirements(location: str) -> None:
    tiles = MemoryTiles()
    async with await filled(location) as store:
        log = MerkleLog(store, tiles, SIGNER)
        await log.sign()
        ends = await sealed(store)
        for last in ends[:4]:
            await retire(store, last)
            report = await log.verify()
            assert report.fault is None
            assert report.retired is not None
            assert report.retired.last == last
            await log.sign()
        await store.commit_batch([a_commit(number) for number in range(100)])
        await log.sign()
        last = (await sealed(store))[-1]
        await retire(store, last)  # the older records with it
        left = Query().stream(RETIREMENTS).skipping_retired()
        assert [event.position async for event in store.read(left)] == [last + 1]
        report = await log.verify()
        assert report.fault is None
        assert report.verified == 0
        await log.sign()
        assert (await log.verify()).is_sound


async def test_one_that_is_recorded_and_not_carried_out_yet(tmp_path: Path) -> None:
    tiles = MemoryTiles()
    store, last = await some_log(tmp_path / "s.db", tiles, 3)
    async with store:
        ends = [segment.last for segment in await store.kernel.backend.segments()]
        survey, retirement = await surveyed(store, ends[4])
        await store.kernel.backend.append([survey.record(retirement)])
        log = MerkleLog(store, tiles, SIGNER)
        for _ in range(2):
            report = await log.verify()
            assert report.fault is None
            assert report.retired is not None
            assert report.retired.last == last
            await log.sign()
        await finished(store, await store.kernel.backend.segments())
        report = await log.verify()
        assert report.fault is None
        assert report.retired is not None
        assert (report.retired.last, report.retired.is_signed) == (ends[4], True)


async def test_records_of_another_store_are_not_carried_out(location: str) -> None:
    async with await filled(location) as store:
        ends = await sealed(store)
        survey, retirement = await surveyed(store, ends[2])
        true = msgspec.structs.asdict(recorded_by(survey.record(retirement)))
        for wrong in ({"commits": 5}, {"leaf": "00" * 32}, {"sha256": "00" * 32}, {"first": 2}):
            await store.append(RETIREMENTS, [UnknownEvent("HistoryRetired", {**true, **wrong})])
            assert await finished(store, await store.kernel.backend.segments()) is None
        await retire(store, ends[0])
        again = recorded_by((await surveyed(store, ends[2]))[0].record(retirement))
        assert (again.commits, again.leaf) == (true["commits"], true["leaf"])
        assert (await surveyed(store, ends[2]))[1].first == ends[0] + 1


async def test_nothing_is_retired_after_what_nobody_recorded(location: str) -> None:
    async with await filled(location) as store:
        ends = await sealed(store)
        await store.kernel.backend.move(Retire(ends[0], recorded=1))
        with pytest.raises(TamperedError, match="no event of the history says"):
            await surveyed(store, ends[1])


async def test_the_parent_of_a_branch_is_retired(location: str) -> None:
    tiles, others = MemoryTiles(), MemoryTiles()
    async with await filled(location) as store:
        head = (await store.head()).position
        for number, fork in enumerate((head, 20)):
            await store.create_branch(f"b{number}", fork)
        async with await store.branch("b0") as branch, await store.branch("b1") as early:
            for one, its in ((branch, tiles), (early, others)):
                await one.append("own", [UnknownEvent("Noted", {"n": 0})])
                await MerkleLog(one, its, SIGNER).sign()
            last = (await sealed(store))[4]
            await retire(store, last)
            await branch.append("own", [UnknownEvent("Noted", {"n": 1})])
            for again in (False, True):
                log = MerkleLog(branch, tiles, SIGNER)
                report = await log.verify()
                assert report.fault is None
                assert report.retired is not None
                assert (report.retired.last, report.retired.record) == (last, None)
                assert report.unsigned == (not again)
                await log.sign()
            proof = await log.prove((await branch.head()).position)
            assert verify(parse_proof(proof.encode()), POLICY).entry.slices is not None
            with pytest.raises(MerkleLogError, match="shares it up to position 20"):
                await MerkleLog(early, others, SIGNER).verify()


async def test_proven_reads_go_on_after_it(tmp_path: Path) -> None:
    tiles = MemoryTiles()
    store, last = await some_log(tmp_path / "s.db", tiles)
    async with store:
        log = MerkleLog(store, tiles, SIGNER)
        (_, report) = await log.proven()
        assert report.retired is not None
        everything = [e.position async for e in store.read(Query().skipping_retired(), proven=log)]
        assert everything == list(range(last + 1, (await store.head()).position + 1))
        after = [e.position async for e in store.read(Query().after(last), proven=log)]
        assert after == everything
        with pytest.raises(RetiredError):
            [event async for event in store.read(proven=log)]


# What nobody recorded, or signed


@pytest.mark.attack(
    "old events are deleted as if they had been retired",
    about="history",
    answer="no event of the history records it, or not as much, or not these hashes",
    needs="a signed checkpoint over it",
)
async def test_deleted_and_not_recorded(location: str) -> None:
    tiles = MemoryTiles()
    async with await filled(location) as store:
        log = MerkleLog(store, tiles, SIGNER)
        await log.sign()
        last = (await sealed(store))[4]
        await store.kernel.backend.move(Retire(last, recorded=last))
        fault = await fault_of(store, tiles)
        assert (fault.kind, fault.position) == (FaultKind.REMOVED, last)
        assert "no event of the history says that it was retired" in fault.what
        report = await log.verify()
        assert report.retired is None
        with pytest.raises(UnprovenError, match="no event of the history"):
            await log.proven()


async def test_more_is_gone_than_was_recorded(tmp_path: Path) -> None:
    tiles = MemoryTiles()
    store, last = await some_log(tmp_path / "s.db", tiles, 3)
    async with store:
        ends = [segment.last for segment in await store.kernel.backend.segments()]
        await store.kernel.backend.move(Retire(ends[4], recorded=last))
        fault = await fault_of(store, tiles)
        assert (fault.kind, fault.position) == (FaultKind.REMOVED, ends[4])
        assert f"says it of positions up to {last:,}" in fault.what


async def test_the_record_itself_was_removed(tmp_path: Path) -> None:
    tiles, path = MemoryTiles(), tmp_path / "s.db"
    store, _ = await some_log(path, tiles)
    async with store:
        (record,) = [event.position async for event in store.read(RETIREMENTS)]
    change(path, f"DELETE FROM slices WHERE position = {record}")
    async with await open_store(path) as store:
        fault = await fault_of(store, tiles)
        assert fault.kind is FaultKind.REMOVED
        assert f"missing before position {record + 1:,}" in fault.what
    change(path, f"DELETE FROM slices WHERE position > {record}")
    async with await open_store(path) as store:
        assert (await fault_of(store, tiles)).kind is FaultKind.CUT_TAIL


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("commits", FaultKind.FALSE_RETIREMENT),
        ("leaf", FaultKind.FALSE_RETIREMENT),
        ("last", FaultKind.REMOVED),
    ],
)
async def test_a_record_that_does_not_fit(location: str, field: str, kind: FaultKind) -> None:
    tiles = MemoryTiles()
    async with await filled(location) as store:
        log = MerkleLog(store, tiles, SIGNER)
        await log.sign()
        last = (await sealed(store))[4]
        survey, retirement = await surveyed(store, last)
        true = recorded_by(survey.record(retirement))
        wrong = {"commits": true.commits - 1, "leaf": "00" * 32, "last": last - 1}[field]
        data = {**msgspec.structs.asdict(true), field: wrong}
        receipt = await store.append(RETIREMENTS, [UnknownEvent("HistoryRetired", data)])
        await log.sign()
        await store.kernel.backend.move(Retire(last, receipt.position))
        for given in ({}, {"since": (await log.sign()).note}):
            assert (await fault_of(store, tiles, **given)).kind is kind


async def test_what_is_no_record_is_none(location: str) -> None:
    """Anybody who appends may write to the stream: nothing of that counts, or breaks."""
    tiles = MemoryTiles()
    async with await filled(location) as store:
        log = MerkleLog(store, tiles, SIGNER)
        await log.sign()
        last = (await sealed(store))[4]
        await retire(store, last)
        data: dict[str, object] = dict.fromkeys(("first", "last", "events", "commits", "lost"), 1)
        data |= {"leaf": "00", "sha256": ""}
        for wrong in ({}, {"last": -1}, {**data, "last": "x"}, {**data, "last": 1 << 60}, data):
            for count in (1, 2):
                await store.append(RETIREMENTS, [UnknownEvent("HistoryRetired", wrong)] * count)
        await log.sign()
        assert (await log.verify()).is_sound
        data["last"] = last
        for leaf in ("", "00", "no", "\u1234" * 64):
            more = {**data, "leaf": leaf}
            await store.append(RETIREMENTS, [UnknownEvent("HistoryRetired", more)])
            fault = await fault_of(store, tiles)
            assert fault.kind is FaultKind.FALSE_RETIREMENT


@pytest.mark.parametrize("tile", [0, 1])  # of which the second is retired in part
async def test_tiles_of_what_was_retired_were_changed(tmp_path: Path, tile: int) -> None:
    tiles = MemoryTiles()
    store, _ = await some_log(tmp_path / "s.db", tiles)
    async with store:
        name = tile_path(0, tile)
        data = tiles.files[name]
        tiles.files[name] = data[:5] + b"\x00\x01" + data[7:]
        assert (await fault_of(store, tiles)).kind is FaultKind.TREE
        tiles.files[name] = data[:-40]
        assert (await fault_of(store, tiles)).kind is FaultKind.TREE
        del tiles.files[name]
        assert (await fault_of(store, tiles)).kind is FaultKind.TREE
        tiles.files[name] = data
        assert (await MerkleLog(store, tiles, SIGNER).verify()).is_sound


async def test_another_history_was_signed_before(tmp_path: Path) -> None:
    tiles, others = MemoryTiles(), MemoryTiles()
    async with await filled(tmp_path / "other.db", 100) as other:
        remembered = await MerkleLog(other, others, SIGNER).sign()
    store, _ = await some_log(tmp_path / "s.db", tiles)
    async with store:
        fault = await fault_of(store, tiles, remembered=[remembered.note])
        assert fault.kind is FaultKind.REWRITTEN


async def test_what_is_left_was_changed(tmp_path: Path) -> None:
    tiles, path = MemoryTiles(), tmp_path / "s.db"
    store, _ = await some_log(path, tiles, 8)
    async with store:
        head = (await store.head()).position
    change(path, f"UPDATE slices SET recorded_at = recorded_at + 1 WHERE position = {head}")
    async with await open_store(path) as store:
        fault = await fault_of(store, tiles)
        assert (fault.kind, fault.position) == (FaultKind.BACK_DATED, head)


# What was retired before it was signed


async def test_nothing_was_signed_before(location: str) -> None:
    tiles = MemoryTiles()
    async with await filled(location) as store:
        await retire(store, (await sealed(store))[2])
        with pytest.raises(MerkleLogError, match="retired before all of it was signed") as caught:
            await MerkleLog(store, tiles, SIGNER).sign()
        assert not isinstance(caught.value, TamperedError)
        assert (await fault_of(store, tiles)).kind is FaultKind.NOT_SIGNED


async def test_not_all_was_signed_before(location: str) -> None:
    tiles = MemoryTiles()
    async with await filled(location, 50) as store:
        log = MerkleLog(store, tiles, SIGNER)
        early = await log.sign()
        await store.commit_batch([a_commit(number) for number in range(COMMITS)])
        await retire(store, (await sealed(store))[2])
        for again in (log, MerkleLog(store, tiles, SIGNER)):
            with pytest.raises(MerkleLogError, match="only 50 commits are") as caught:
                await again.sign()
            assert not isinstance(caught.value, TamperedError)
        assert (await fault_of(store, tiles)).kind is FaultKind.RETIRED_UNSIGNED
        assert (await log.checkpoint()) == early


async def test_nothing_is_retired_that_a_known_log_has_not_signed(
    location: str, tmp_path: Path
) -> None:
    async with await filled(location, 50) as store:
        log = MerkleLog(store, tmp_path / "log", SIGNER)
        await log.sign()
        await store.commit_batch([a_commit(number) for number in range(COMMITS)])
        last = (await sealed(store))[2]
        survey, retirement = await surveyed(store, last)
        head = await store.head()
        with pytest.raises(MerkleLogError, match="has signed only 50 of them"):
            await retired(store, survey, retirement)
        assert await store.head() == head
        await log.sign()
        await retired(store, survey, retirement)
        assert (await log.verify()).is_sound
        await store.commit_batch([a_commit(number) for number in range(COMMITS)])
        survey, retirement = await surveyed(store, (await sealed(store))[-1])
        await retired(store, survey, retirement, allow_loss=True)
        with pytest.raises(MerkleLogError, match="retired before all of it was signed"):
            await log.sign()


async def test_a_log_that_was_set_back(location: str) -> None:
    tiles = MemoryTiles()
    async with await filled(location, 50) as store:
        log = MerkleLog(store, tiles, SIGNER)
        await log.sign()
        early = dict(tiles.files)
        await store.commit_batch([a_commit(number) for number in range(COMMITS)])
        late = await log.sign()
        await retire(store, (await sealed(store))[2])
        tiles.files.clear()
        tiles.files.update(early)
        fault = await fault_of(store, tiles, remembered=[late.note])
        assert fault.kind is FaultKind.SET_BACK
