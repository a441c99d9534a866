"""A store is made anew from its archive, and is the same one; from anything else it is not."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import msgspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from everwhen import KeyFile, Personal, Vault
from everwhen.aio import Commit, Event, NewEvent, Query, Store, UnknownEvent, Write, open_store
from everwhen.backends.archive_objects import GroupRecord, ObjectWriter
from everwhen.backends.sqlite import segment_tables
from everwhen.codec.slice_digest import digest_of
from everwhen.errors import InvalidCommitError, StorageError, UnsupportedError
from everwhen.exchange import (
    ExchangeFileError,
    ExchangeProgress,
    ImportFormatError,
    OtherHistoryError,
)
from everwhen.exchange.aio import import_archive
from everwhen.merkle.aio import MemoryTiles, MerkleLog
from everwhen.privacy import Erased
from everwhen.system.object_storage import object_url
from everwhen.testing import ManualClock
from everwhen.vocabulary import CommitMetadata
from everwhen.vocabulary.contract import (
    Archive,
    Merge,
    Restore,
    Seal,
    SegmentSize,
    StoredSlice,
    Sweep,
)
from everwhen_verify.notes import Signer
from everwhen_verify.policy import Policy
from everwhen_verify.proofs import parse_proof, verify

SMALL = SegmentSize(slices=8, frame=2, frames=2)


class Paid(Event):
    tag_fields = ("by",)

    by: str
    amount: int


async def slices_of(store: Store) -> list[StoredSlice]:
    page = await store.kernel.backend.read(Query(), 1 << 20)
    assert page.end
    return list(page.slices)


async def filled(path: Path | str, commits: int = 20) -> Store:
    clock = ManualClock()
    store = await open_store(path, events=[Paid], clock=clock)
    for number in range(commits):
        clock.advance(number % 3)
        writes = [
            Write(f"order-{number % 5}", [Paid("ann", number), Paid("ü", 1)]),
            Write("log", [NewEvent(event=UnknownEvent("Noted", {"n": [number]}), tags=("x", "y"))]),
            Write(f"order-{number % 5}", [Paid("bob", -number)]),
        ]
        await store.commit(
            Commit(
                writes[: 1 + number % 3],
                id=uuid4() if number % 4 else None,
                metadata=CommitMetadata(user_id="eve") if number % 2 else None,
            )
        )
    return store


async def archived(store: Store, url: str, size: SegmentSize = SMALL) -> None:
    """Put everything into objects."""
    backend = store.kernel.backend
    head = (await store.head()).position
    while await backend.move(Seal(head, size)) is not None:
        pass
    for segment in await backend.segments():
        if segment.object is None:
            await backend.move(Archive(segment.last, url))


def stored_in(folder: Path, name: str, *groups: list[StoredSlice]) -> ObjectWriter:
    """An object of these row groups; what its footer says of them may be changed."""
    writer = ObjectWriter()
    for group in groups:
        writer.add(group)
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(writer.finish())
    return writer


@pytest.fixture
def url(tmp_path: Path) -> str:
    return object_url(tmp_path / "archive")


@pytest.fixture
def objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the archive; its objects have row groups of a few events."""
    monkeypatch.setattr(segment_tables, "GROUP_EVENTS", 6)
    return tmp_path / "archive"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_it_is_the_same_store(tmp_path: Path, objects: Path, url: str) -> None:
    async with await filled(tmp_path / "first.db") as first:
        await archived(first, url)
        assert len(names_in(objects)) > 3
        seen: list[ExchangeProgress] = []
        async with await open_store(tmp_path / "second.db", events=[Paid]) as second:
            report = await import_archive(second, objects, progress=seen.append)
            head = (await first.head()).position
            assert (report.events, report.written, report.repeated) == (head, head, 0)
            assert report.notices == ()
            assert (seen[0].stage, seen[0].unit) == ("reading", "bytes")
            assert seen[-1] == ExchangeProgress("writing", head, head, "events")
            assert await slices_of(second) == await slices_of(first)
            assert await second.check() == []
            for query in (Query().tags("by:ann"), Query().types("Noted"), Query().category("log")):
                found = [e.position async for e in second.read(query)]
                assert found == [e.position async for e in first.read(query)] != []
            await archived(second, object_url(tmp_path / "again"))
            assert await second.check() == []
            async with await open_store("memory:") as third:
                await import_archive(third, tmp_path / "again")
                assert await slices_of(third) == await slices_of(first)


async def test_proofs_and_signed_checkpoints_hold(tmp_path: Path, objects: Path, url: str) -> None:
    signer, tiles = Signer.generate("example.org/log"), MemoryTiles()
    verifying = Policy.parse(f"log {signer.verifier.vkey}\nquorum none\n".encode())
    async with await filled(tmp_path / "first.db") as first:
        before = await MerkleLog(first, tiles, signer).sign()
        proof = (await MerkleLog(first, tiles, signer).prove(9)).encode()
        await archived(first, url)
    async with await open_store(tmp_path / "second.db", events=[Paid]) as second:
        await import_archive(second, objects)
        log = MerkleLog(second, tiles, signer)
        report = await log.verify()
        assert (report.fault, report.verified) == (None, before.checkpoint.size)
        anew = await MerkleLog(second, MemoryTiles(), signer).sign()
        assert anew.checkpoint.root == before.checkpoint.root
        await second.append("order-1", [Paid("ann", 1)])
        assert (await log.sign()).checkpoint.size == before.checkpoint.size + 1
        assert (await log.verify()).is_sound
        assert verify(parse_proof(proof), verifying).entry.slices


class Wrote(Event):
    data_subject: ClassVar[str] = "who"

    who: str
    text: Personal[str]


async def test_the_forgotten_stay_forgotten(tmp_path: Path, objects: Path, url: str) -> None:
    key = KeyFile.create(tmp_path / "key")
    with Vault(tmp_path / "vault", key) as vault:
        async with await open_store(tmp_path / "a.db", events=[Wrote], vault=vault) as first:
            for who in ("ann", "bob"):
                await first.append("letters", [Wrote(who, f"of {who}")])
            await first.forget("ann")
            await archived(first, url)
            slices = await slices_of(first)
        for path, opening in (("b.db", vault), ("c.db", None)):
            async with await open_store(tmp_path / path, vault=opening) as made:
                await import_archive(made, objects)
            async with await open_store(tmp_path / path, events=[Wrote], vault=vault) as made:
                assert await slices_of(made) == slices
                ann, bob = [e.event.text async for e in made.read("letters")]
                assert (isinstance(ann, Erased), bob) == (True, "of bob")
                assert await made.check() == []


@pytest.mark.parametrize("kind", ["file", "file-url", "folder-url", "memory", "memory-object"])
async def test_an_archive_is_a_folder_a_file_or_a_url(
    kind: str, tmp_path: Path, objects: Path, url: str
) -> None:
    is_whole = SegmentSize(slices=1_000)
    place = f"memory://{uuid4()}/history" if kind.startswith("memory") else url
    async with await filled(tmp_path / "s.db") as store:
        await archived(store, place, is_whole)
        segment = (await store.kernel.backend.segments())[0].object
        assert segment is not None
        locations = {
            "file": str(objects / segment.name),
            "file-url": f"{url}/{segment.name}",
            "folder-url": url,
            "memory": place,
            "memory-object": f"{place}/{segment.name}",
        }
        async with await open_store("memory:") as made:
            await import_archive(made, locations[kind])
            assert await slices_of(made) == await slices_of(store)


async def test_names_say_nothing(tmp_path: Path, objects: Path, url: str) -> None:
    async with await filled(tmp_path / "s.db") as store:
        await archived(store, url)
        (objects / "deeper").mkdir()
        for number, name in enumerate(names_in(objects)):
            if name != "deeper":
                (objects / name).rename(objects / "deeper" / f"{99 - number} ä#%20.parquet")
        async with await open_store("memory:") as made:
            await import_archive(made, objects)
            assert await slices_of(made) == await slices_of(store)


async def test_what_was_merged_is_taken_once(tmp_path: Path, objects: Path, url: str) -> None:
    async with await filled(tmp_path / "s.db") as store:
        await archived(store, url)
        small = names_in(objects)
        lasts = tuple(segment.last for segment in await store.kernel.backend.segments())
        await store.kernel.backend.move(Merge(lasts[1:4], url))
        assert len(names_in(objects)) == len(small) + 1
        async with await open_store("memory:") as made:
            assert (await import_archive(made, objects)).written == (await store.head()).position
            assert await slices_of(made) == await slices_of(store)
        now = int(store.clock().timestamp() * 1e6) + 1
        await store.kernel.backend.move(Sweep(now))
        assert len(names_in(objects)) == len(small) - 2
        async with await open_store("memory:") as made:
            await import_archive(made, objects)
            assert await slices_of(made) == await slices_of(store)


async def test_what_was_archived_twice_may_be_cut_otherwise(
    tmp_path: Path, objects: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await filled(tmp_path / "s.db") as store:
        await archived(store, url)
        before = names_in(objects)
        monkeypatch.setattr(segment_tables, "GROUP_EVENTS", 1_000)
        for segment in (await store.kernel.backend.segments())[:2]:
            await store.kernel.backend.move(Restore(segment.last))
        await archived(store, url)
        assert len(names_in(objects)) == len(before) + 2
        async with await open_store("memory:") as made:
            await import_archive(made, objects)
            assert await slices_of(made) == await slices_of(store)


async def test_objects_that_contradict_are_refused(tmp_path: Path, objects: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    async with await filled("memory:", 4) as store:
        slices = await slices_of(store)
    async with await filled("memory:", 4) as store:
        others = await slices_of(store)
    stored_in(one, "a.parquet", slices)
    stored_in(other, "a.parquet", slices[:3], slices[3:])
    for folder, groups in (one, [others]), (other, [others]), (one, [others[:3], others[3:]]):
        stored_in(folder, "b.parquet", *groups)
        async with await open_store("memory:") as made:
            with pytest.raises(
                ImportFormatError, match=r"[ab]\.parquet and [ab]\.parquet .*different"
            ):
                await import_archive(made, folder)
            assert (await made.head()).position == 0
    stored_in(one, "b.parquet", slices[:3], slices[3:])
    stored_in(one, "c.parquet", slices[1:4])
    async with await open_store("memory:") as made:
        await import_archive(made, one)
        assert await slices_of(made) == slices


async def test_objects_that_only_overlap_are_refused(tmp_path: Path) -> None:
    async with await filled("memory:", 6) as store:
        slices = await slices_of(store)
    stored_in(tmp_path / "odd", "a.parquet", slices[:4])
    stored_in(tmp_path / "odd", "b.parquet", slices[2:])
    async with await open_store("memory:") as made:
        with pytest.raises(
            ImportFormatError, match=r"a\.parquet has .* b\.parquet .*goes on after"
        ):
            await import_archive(made, tmp_path / "odd")


async def test_a_gap_is_refused_before_anything_is_written(
    tmp_path: Path, objects: Path, url: str
) -> None:
    async with await filled(tmp_path / "s.db") as store:
        await archived(store, url)
        segments = await store.kernel.backend.segments()
    names = names_in(objects)
    (objects / names[2]).rename(tmp_path / "kept")
    missing = f"positions {segments[2].first} to {segments[2].last} are missing"
    async with await open_store("memory:") as made:
        with pytest.raises(ImportFormatError, match=f"{missing}.*{names[1]}.*{names[3]}"):
            await import_archive(made, objects)
        assert (await made.head()).position == 0


async def test_the_beginning_has_to_be_there(tmp_path: Path, objects: Path, url: str) -> None:
    async with await filled(tmp_path / "s.db") as store:
        await archived(store, url)
        slices, segments = await slices_of(store), await store.kernel.backend.segments()
    names = names_in(objects)
    first = tmp_path / "first"
    first.mkdir()
    shutil.copy(objects / names[0], first)
    shutil.copy(objects / names[1], first)
    (objects / names[0]).unlink()
    begins = segments[1].first
    for path in ("new.db", "some.db"):
        async with await open_store(tmp_path / path) as made:
            if path == "some.db":
                await import_archive(made, first / names[0])
            with pytest.raises(
                ImportFormatError, match=f"begins at position {begins}, .* to {begins - 1} "
            ):
                await import_archive(made, objects)
    async with await open_store(tmp_path / "some.db") as made:  # what both have is the same
        await import_archive(made, first)
        report = await import_archive(made, objects)
        assert report.written == slices[-1].position - segments[1].last
        assert await slices_of(made) == slices


async def test_interrupted_at_every_report_it_goes_on(
    tmp_path: Path, objects: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await filled(tmp_path / "s.db", 9) as store:
        await archived(store, url)
        slices = await slices_of(store)
    calls = 0

    def stop(_: ExchangeProgress) -> None:
        nonlocal calls
        calls += 1
        if calls > stop_at:
            raise KeyboardInterrupt

    written = set()
    for stop_at in range(100):  # noqa: B007 (read by stop)
        calls = 0
        async with await open_store("memory:") as made:
            try:
                await import_archive(made, objects, progress=stop)
            except KeyboardInterrupt:
                head = (await made.head()).position
                written.add(head)
                report = await import_archive(made, objects)
                assert (report.repeated, report.written) == (head, slices[-1].position - head)
                assert await slices_of(made) == slices
            else:
                break
    assert len(written) > 3


async def test_a_store_that_has_gone_on_has_nothing_to_import(
    tmp_path: Path, objects: Path, url: str
) -> None:
    async with await filled(tmp_path / "s.db") as store:
        await archived(store, url)
        sealed = (await store.head()).position
        await store.append("later", [Paid("ann", 1)])
        report = await import_archive(store, objects)
        assert (report.written, report.repeated) == (0, sealed)


async def test_other_history_is_refused_before_anything_is_written(
    tmp_path: Path, objects: Path, url: str
) -> None:
    async with await filled(tmp_path / "s.db") as store:
        await archived(store, url)
        commits = await slices_of(store)
    async with await filled("memory:", 4) as other:
        before = await slices_of(other)
        with pytest.raises(
            OtherHistoryError, match=r"position 1 on: .* 0 events were written"
        ) as info:
            await import_archive(other, objects)
        assert (info.value.position, info.value.written) == (1, 0)
        assert await slices_of(other) == before
    stored_in(tmp_path / "begin", "a.parquet", commits[:5])
    async with await open_store("memory:", events=[Paid]) as made:
        await import_archive(made, tmp_path / "begin")
        await made.append("mine", [Paid("ann", 1)])
        head = (await made.head()).position
        with pytest.raises(OtherHistoryError) as info:
            await import_archive(made, objects)
        assert info.value.position == head == (await made.head()).position


async def test_what_others_write_meanwhile_ends_it(tmp_path: Path, objects: Path, url: str) -> None:
    async with await filled(tmp_path / "s.db") as store:
        await archived(store, url)
        slices = await slices_of(store)
    async with await open_store("memory:") as made:
        pause = Pausing(made.kernel.backend.append, after=3)
        made.kernel.backend.append = pause.append  # type: ignore[method-assign]
        with pytest.raises(OtherHistoryError, match="somebody else") as info:
            await import_archive(made, objects)
        *ours, theirs = await slices_of(made)
        assert (info.value.position, theirs.stream) == (ours[-1].position + 1, "mine")
        assert info.value.written == ours[-1].position
        assert ours == slices[: len(ours)]


class Pausing:
    """Lets somebody else write before an append."""

    def __init__(self, append: Callable[..., Any], after: int) -> None:
        self._append = append
        self._left = after

    async def append(self, commits: Any, connection: object = None) -> Any:
        self._left -= 1
        if not self._left:
            part = msgspec.structs.replace(commits[0].slices[0], stream="mine")
            own = msgspec.structs.replace(
                commits[0], id=uuid4().bytes, slices=(part,), condition=None, expected=()
            )
            await self._append([own])
        return await self._append(commits)


async def test_a_refused_commit_takes_none_after_it_along(
    tmp_path: Path, objects: Path, url: str
) -> None:
    async with await filled(tmp_path / "s.db") as store:
        await archived(store, url, SegmentSize(slices=1_000))
        slices = await slices_of(store)
    async with await open_store(tmp_path / "made.db") as made:
        backend = made.kernel.backend
        append = backend.append

        async def spoiling(commits: Any, connection: object = None) -> Any:
            late = msgspec.structs.replace(commits[1], recorded_at=0)
            return await append([commits[0], late, *commits[2:]])

        backend.append = spoiling  # type: ignore[method-assign]
        with pytest.raises(InvalidCommitError, match="recorded_at"):
            await import_archive(made, objects)
        backend.append = append  # type: ignore[method-assign]
        stored = await slices_of(made)
        assert stored == slices[: len(stored)]
        assert {one.commit_id for one in stored} == {slices[0].commit_id}
        await import_archive(made, objects)
        assert await slices_of(made) == slices


async def test_a_damaged_object_is_named_and_can_be_replaced(
    tmp_path: Path, objects: Path, url: str
) -> None:
    async with await filled(tmp_path / "s.db") as store:
        await archived(store, url)
        slices, segments = await slices_of(store), await store.kernel.backend.segments()
    path = objects / names_in(objects)[2]
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    async with await open_store(tmp_path / "made.db") as made:
        with pytest.raises(ImportFormatError) as info:
            await import_archive(made, objects)
        assert f"positions {segments[2].first} to " in str(info.value)
        assert path.name in str(info.value)
        assert 0 < (await made.head()).position <= segments[1].last
        path.write_bytes(whole)
        await import_archive(made, objects)
        assert await slices_of(made) == slices


@pytest.mark.parametrize("damage", ["cut", "empty", "begun"])
async def test_what_was_an_object_is_never_passed_over(
    damage: str, tmp_path: Path, objects: Path, url: str
) -> None:
    async with await filled(tmp_path / "s.db") as store:
        await archived(store, url)
    path = objects / names_in(objects)[-1]
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-9], "empty": b"", "begun": whole[:4]}[damage])
    async with await open_store("memory:") as made:
        with pytest.raises(ImportFormatError, match=path.name):
            await import_archive(made, objects)
        assert (await made.head()).position == 0


async def test_files_of_others_are_passed_over(tmp_path: Path, objects: Path, url: str) -> None:
    async with await filled(tmp_path / "s.db") as store:
        await archived(store, url)
        slices = await slices_of(store)
    parquet.write_table(pa.table({"a": [1]}), objects / "0-theirs.parquet")
    (objects / "README.txt").write_text("hello")
    async with await open_store("memory:") as made:
        report = await import_archive(made, objects)
        assert await slices_of(made) == slices
    assert [str(notice) for notice in report.notices] == [
        "Parquet files that aren't Everwhen's, passed over (0-theirs.parquet): 1",
        "files that aren't Parquet, passed over: 1",
    ]
    async with await open_store("memory:") as made:
        with pytest.raises(ImportFormatError, match=r"0-theirs\.parquet: it isn't an object"):
            await import_archive(made, objects / "0-theirs.parquet")
        (tmp_path / "others").mkdir()
        shutil.copy(objects / "0-theirs.parquet", tmp_path / "others")
        with pytest.raises(ImportFormatError, match="no Parquet file in it is"):
            await import_archive(made, tmp_path / "others")


async def test_a_commit_is_put_together_over_groups_and_objects(tmp_path: Path) -> None:
    async with await open_store("memory:") as store:
        for number in range(3):
            writes = [Write(f"s-{n}", [UnknownEvent("T", {"n": number})]) for n in range(5)]
            await store.commit(Commit(writes))
        slices = await slices_of(store)
    stored_in(tmp_path / "a", "x.parquet", slices[:2], slices[2:3], slices[3:8])
    stored_in(tmp_path / "a", "y.parquet", slices[8:9], slices[9:])
    async with await open_store(tmp_path / "made.db") as made:
        await import_archive(made, tmp_path / "a")
        assert await slices_of(made) == slices
        assert await made.check() == []


def changed(slices: list[StoredSlice], at: int, **changes: Any) -> list[StoredSlice]:
    found = list(slices)
    found[at] = msgspec.structs.replace(found[at], **changes)
    return found


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": 9}, "stream 's-0' to version 9, which was at version 3"),
        ({"recorded_at": 0}, "recorded_at is earlier"),
        ({"recorded_at": 1 << 60}, "9999"),
        ({"first_index": 1}, "first_index is 1 and should be 0"),
        ({"stream": ""}, "stream name"),
        ({"stream": "x\n", "version": 1}, "not allowed"),
        ({"body": b'[["T",1,{}],["T",1,{}]]', "count": 2, "position": 5}, "a gap"),
        ({"body": b'[["",1,{}]]'}, "event type name"),
        ({"body": b'[["T",0,{}]]'}, "not a schema version"),
        ({"body": b'[["T",1,{},["a\\u0000"]]]'}, "tag of T"),
        ({"body": b'[["T",1,{},[],{"id":"\\n"}]]'}, "event id"),
        ({"metadata": b'{"user_id":7}'}, "user_id"),
        ({"metadata": b"7"}, "object"),
        ({"commit_id": bytes(16)}, "position 4: its commit id 0+-0000.* was used before. 3 events"),
        (
            {"commit_id": bytes(16), "body": b'[["T",1,{"n":0}]]'},
            "position 4: its commit id 0+-0000.* was used before. 3 events",
        ),
    ],
)
async def test_hostile_slices_are_refused_where_they_are(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    async with await open_store("memory:", clock=ManualClock()) as store:
        for number in range(6):
            given = Commit([Write("s-0", [UnknownEvent("T", {"n": number})])], id=None)
            await store.commit(given)
        slices = await slices_of(store)
    slices[0] = msgspec.structs.replace(slices[0], commit_id=bytes(16))
    stored_in(tmp_path / "a", "x.parquet", changed(slices, 3, **changes))
    async with await open_store(tmp_path / "made.db") as made:
        with pytest.raises((ImportFormatError, OtherHistoryError), match=why):
            await import_archive(made, tmp_path / "a")
        found = await slices_of(made)
        assert found == slices[: len(found)]
        assert len(found) >= 2
        assert await made.check() == []


async def test_a_footer_that_lies_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await filled("memory:", 4) as store:
        slices = await slices_of(store)
    records = [
        GroupRecord(1, slices[-1].position + 1, len(slices), 0, digest_of(slices)),
        GroupRecord(1, slices[-1].position, len(slices) - 1, 0, digest_of(slices)),
        GroupRecord(1, slices[-1].position, len(slices), 0, digest_of(slices[1:])),
        GroupRecord(1, slices[-1].position, len(slices), 0, b""),
        GroupRecord(1, slices[-1].position, 0, 0, digest_of(slices)),
        GroupRecord(0, slices[-1].position, len(slices), 0, digest_of(slices)),
        GroupRecord(9, 1, len(slices), 0, digest_of(slices)),
        GroupRecord(1, 1 << 70, len(slices), 0, digest_of(slices)),
    ]
    folder = tmp_path / "a"
    folder.mkdir()
    for record in records:
        writer = ObjectWriter()
        writer.add(slices)
        writer.groups[:] = [record]
        (folder / "x.parquet").write_bytes(writer.finish())
        async with await open_store("memory:") as made:
            with pytest.raises(ImportFormatError, match=r"x\.parquet"):
                await import_archive(made, folder)
            assert (await made.head()).position == 0


async def test_there_has_to_be_an_archive(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain.txt").write_text("hello")
    nobody = f"memory://{uuid4()}/nothing"
    async with await open_store("memory:") as made:
        for location, why in [
            (str(tmp_path / "missing"), "no such folder or file"),
            (str(tmp_path / "missing.parquet"), "no such folder or file"),
            (f"file://{tmp_path}/missing", "no such folder or file"),
            (str(tmp_path / "empty"), "no archived object"),
            (nobody, "no archived object"),
            (f"{nobody}/x.parquet", "no such file"),
        ]:
            with pytest.raises(ExchangeFileError, match=why):
                await import_archive(made, location)
        with pytest.raises(ImportFormatError, match=r"plain\.txt"):
            await import_archive(made, tmp_path / "plain.txt")
        (tmp_path / "sealed").mkdir(mode=0)
        with pytest.raises((StorageError, ExchangeFileError)):
            await import_archive(made, tmp_path / "sealed")


async def test_a_branch_takes_none(tmp_path: Path, objects: Path, url: str) -> None:
    async with await filled(tmp_path / "s.db") as store:
        await archived(store, url)
        async with await store.create_branch("what-if") as branch:
            with pytest.raises(UnsupportedError, match="is a branch"):
                await import_archive(branch, objects)


async def test_without_the_extra_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    async with await open_store("memory:") as made:
        with pytest.raises(UnsupportedError, match=r"pip install 'everwhen\[archive\]'"):
            await import_archive(made, "s3://bucket/shop")
