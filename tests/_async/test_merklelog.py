"""The Merkle log over stores of every kind: it signs, proves, goes on and verifies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from everwhen import Commit, Event, Write
from everwhen.aio import Store, open_store
from everwhen.backends._async.concurrency import sleep
from everwhen.errors import MerkleLogError, TamperedError
from everwhen.merkle.aio import FaultKind, MemoryTiles, MerkleLog, TileFolder, TileStore
from everwhen_verify.checkpoints import parse_checkpoint
from everwhen_verify.merkle import check_consistency
from everwhen_verify.notes import Kind, Signature, Signer, open_note, parse_note
from everwhen_verify.policy import Policy
from everwhen_verify.proofs import parse_proof, verify


class Noted(Event):
    number: int
    text: str = ""


SIGNER = Signer.generate("example.org/log")
POLICY = Policy.parse(f"log {SIGNER.verifier.vkey}\nquorum none\n".encode())
KINDS = [
    ("memory", False),
    ("sqlite", False),
    ("sqlite", True),
    ("postgresql", False),
]


async def some_store(location: str, folder: Path, *, branched: bool) -> tuple[Store, TileStore]:
    store = await open_store(location, events=[Noted])
    if branched:
        await fill(store, 40)
        store = await store.create_branch("b", 20)
    return store, MemoryTiles() if location == "memory:" else TileFolder(folder / "log")


async def fill(store: Store, commits: int) -> None:
    await store.commit_batch([a_commit(number) for number in range(commits)])


def a_commit(number: int) -> Commit:
    if number % 7 == 0:
        return Commit([Write(f"m-{i}", [Noted(number), Noted(i)]) for i in range(3)])
    if number % 50 == 1:
        return Commit([Write("large", [Noted(number, "x" * 70_000)])])
    return Commit([Write(f"s-{number % 5}", [Noted(number)])])


@pytest.mark.parametrize(("location", "branched"), KINDS, indirect=["location"])
async def test_what_is_sealed_is_proven_and_verified(
    location: str, tmp_path: Path, branched: bool
) -> None:
    store, tiles = await some_store(location, tmp_path, branched=branched)
    async with store:
        log = MerkleLog(store, tiles, SIGNER)
        roots = []
        for commits in (0, 1, 3, 254, 1, 300, 700):
            await fill(store, commits)
            sealed = await log.sign()
            assert await log.sign() == sealed, "nothing new, nothing signed"
            opened = open_note(sealed.note, [SIGNER.verifier])
            assert parse_checkpoint(opened.text) == sealed.checkpoint
            roots.append(sealed.checkpoint)
        head = (await store.head()).position
        seen = set()
        for position in range(1, head + 1, 13):
            proof = await log.prove(position)
            verdict = verify(parse_proof(proof.encode()), POLICY)
            assert verdict.entry.slices is not None
            first, last = verdict.entry.slices[0], verdict.entry.slices[-1]
            assert first.position - first.count < position <= last.position
            seen.add(verdict.entry.index)
        assert len(seen) > 100
        for old, new in pairwise(roots):
            path = await log.consistency(old.size, new.size)
            check_consistency(old.size, old.root, new.size, new.root, path)
        report = await log.verify()
        assert report.fault is None
        assert report.is_sound
        assert report.size == report.verified == roots[-1].size
        assert report.signed_by == (SIGNER.verifier.vkey,)
        again = MerkleLog(store, tiles, SIGNER)
        assert (await again.sign()).checkpoint == roots[-1]
        await fill(store, 100)
        assert (await again.verify()).unsigned == 100
        before = sealed.note
        await again.sign()
        report = await again.verify(since=before)
        assert report.is_sound
        assert 100 <= report.verified < 100 + 256
        for nowhere in (0, (await store.head()).position + 1):
            with pytest.raises(MerkleLogError, match="has no event"):
                await again.prove(nowhere)


async def test_a_branch_begins_with_its_parents_leaves(location: str) -> None:
    async with open_store(location, events=[Noted]) as store:
        await store.commit_batch([Commit([Write("a", [Noted(n)])]) for n in range(300)])
        mine = MerkleLog(store, MemoryTiles(), SIGNER)
        parent = (await mine.sign()).checkpoint
        async with store.create_branch("b", 300) as branch:
            log = MerkleLog(branch, MemoryTiles(), SIGNER)
            assert (await log.sign()).checkpoint == parent
            await branch.append("a", [Noted(1)])
            own = (await log.sign()).checkpoint
            path = await log.consistency(parent.size, own.size)
            check_consistency(parent.size, parent.root, own.size, own.root, path)
            assert (await log.verify()).is_sound


@pytest.mark.parametrize(("location", "branched"), KINDS, indirect=["location"])
async def test_what_is_written_is_sealed_in_the_background(
    location: str, tmp_path: Path, branched: bool
) -> None:
    store, tiles = await some_store(location, tmp_path, branched=branched)
    async with store:
        async with MerkleLog(store, tiles, SIGNER, max_delay=timedelta(seconds=0.1)) as log:
            for number in range(3):
                before = await log.checkpoint()
                await store.append("a", [Noted(number)])
                while (checkpoint := await log.checkpoint()) == before or checkpoint is None:
                    await sleep(0.001)
                proof = await log.prove((await store.head()).position)
                check_inclusion_of(proof, checkpoint.checkpoint.root)
                assert log.failure is None
        assert (await log.verify()).is_sound


def check_inclusion_of(proof: object, root: bytes) -> None:
    verdict = verify(proof, POLICY)  # type: ignore[arg-type]
    assert verdict.checkpoint.root == root


async def test_one_key_hands_over_to_the_next(tmp_path: Path) -> None:
    new, stranger = Signer.generate("example.org/log"), Signer.generate("example.org/log")
    async with open_store("memory:", events=[Noted]) as store:
        tiles = MemoryTiles()
        log = MerkleLog(store, tiles, SIGNER)
        await fill(store, 10)
        await log.roll_over(new)
        await fill(store, 10)
        await log.sign()
        report = await MerkleLog(store, tiles, key=SIGNER.verifier.vkey).verify()
        assert report.is_sound
        assert report.signed_by == (new.verifier.vkey,)
        for wrong in (SIGNER, stranger):
            with pytest.raises(MerkleLogError, match="signed by"):
                await MerkleLog(store, tiles, wrong).sign()
        with pytest.raises(TamperedError, match="follow"):
            await MerkleLog(store, tiles, key=stranger.verifier).verify()
        with pytest.raises(MerkleLogError, match="without a key"):
            await MerkleLog(store, tiles).sign()


async def test_a_log_is_handed_over_to_a_fresh_key_of_its_name() -> None:
    second = Signer.generate("example.org/log")
    async with open_store("memory:", events=[Noted]) as store:
        tiles = MemoryTiles()
        log = MerkleLog(store, tiles, SIGNER)
        with pytest.raises(MerkleLogError, match="give a signer"):
            await MerkleLog(store, tiles).roll_over(second)
        await fill(store, 10)
        await log.sign()
        await log.roll_over(second)
        await fill(store, 1)
        before = dict(tiles.files)
        for wrong, why in (
            (SIGNER, "is, or was, the log's key already"),
            (second, "is, or was, the log's key already"),
            (Signer.generate("example.org/other"), "is not a key of the log"),
            (Signer.generate("example.org/log", Kind.COSIGNATURE), "is not a key of the log"),
        ):
            with pytest.raises(MerkleLogError, match=why):
                await log.roll_over(wrong)
        assert tiles.files == before, "nothing was written"
        assert (await log.sign()).checkpoint.size == 11
        assert (await log.verify()).is_sound


async def test_nothing_is_signed_on_top_of_another_history(tmp_path: Path) -> None:
    tiles = MemoryTiles()
    async with open_store("memory:", events=[Noted]) as store:
        await fill(store, 300)
        await MerkleLog(store, tiles, SIGNER).sign()
    async with open_store("memory:", events=[Noted]) as other:
        await fill(other, 400)
        with pytest.raises(TamperedError):
            await MerkleLog(other, tiles, SIGNER).sign()
        report = await MerkleLog(other, tiles, SIGNER).verify()
        assert report.fault is not None
        assert report.fault.index == 0
    async with open_store("memory:") as empty:
        report = await MerkleLog(empty, tiles, SIGNER).verify()
        assert report.fault is not None
        assert report.fault.kind is FaultKind.CUT_TAIL


async def test_what_witnesses_say_stands_in_the_checkpoint() -> None:
    signer = Signer.generate("witness.example", Kind.COSIGNATURE)

    class Cosigning:
        def cosign(
            self, note: bytes, consistency: Callable[[int, int], Sequence[bytes]]
        ) -> Sequence[Signature]:
            assert len(consistency(5, 10)) > 0
            return [signer.sign(parse_note(note).text, 1_700_000_000)]

    class Away:
        def cosign(
            self, note: bytes, consistency: Callable[[int, int], Sequence[bytes]]
        ) -> Sequence[Signature]:
            raise MerkleLogError("it can't be reached")

    async with open_store("memory:", events=[Noted]) as store:
        await fill(store, 10)
        log = MerkleLog(store, MemoryTiles(), SIGNER, witnesses=[Away(), Cosigning()])
        sealed = await log.sign()
        assert isinstance(log.failure, MerkleLogError)
        opened = open_note(sealed.note, [SIGNER.verifier, signer.verifier])
        assert len(opened.verified) == 2
        assert (await log.verify()).is_sound
