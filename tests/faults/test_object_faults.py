"""Moves to and from an object storage that fails, and objects that are damaged there."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from tests.faults.faults_ledger import Entry, entries
from tests.faults.faults_moving import aged, moved, prepared_for
from tests.faults.faults_sealing import (
    Answers,
    all_readings,
    answers,
    fill,
    leftovers,
    pages,
    seal_all,
)
from tests.object_server import Fault, ObjectServer, object_server
from tests.patience import PATIENCE_SECONDS

from everwhen import Commit, Query, Write, aio, open_store
from everwhen.backends.archive_objects import ObjectReader, ObjectWriter
from everwhen.backends.engine import Engine, NotFetchedError
from everwhen.backends.sqlite import segment_tables
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.errors import CorruptStoreError, StorageError
from everwhen.system import object_storage
from everwhen.vocabulary.contract import (
    Archive,
    ArchiveObject,
    Evict,
    Merge,
    Move,
    Restore,
    Segment,
    SegmentSize,
    Sweep,
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    backoff = {
        "init_backoff": timedelta(milliseconds=1),
        "max_backoff": timedelta(milliseconds=2),
        "base": 2,
    }
    retries = {"max_retries": 1, "retry_timeout": timedelta(seconds=60), "backoff": backoff}
    monkeypatch.setattr(object_storage, "_RETRIES", retries)
    monkeypatch.setattr(segment_tables, "GROUP_EVENTS", 20)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    with object_server(monkeypatch) as running:
        yield running


def _is_whole(path: Path, said: Answers) -> None:
    engine = SqliteEngine(path)
    try:
        assert answers(engine) == said
        assert list(engine.check()) == []
    finally:
        engine.close()
    assert leftovers(path) == {}


# A storage that fails

MOVES = ("archive", "archive and read back", "evict", "restore", "merge", "sweep")


def _refused(handler: Any) -> bool:
    handler.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
    return True


def _failing(handler: Any) -> bool:
    handler.answer(500)
    return True


def _failing_after(handler: Any) -> bool:
    handler.result()
    return _failing(handler)


def _cut_off(handler: Any) -> bool:
    handler.cut(sends=b"PAR1")
    return True


def _heard_twice(handler: Any) -> bool:
    handler.result()
    return False


def _gone(handler: Any) -> bool:
    handler.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
    return True


def _changed(change: Callable[[bytes], bytes]) -> Fault:
    """What is read comes changed; what is written is stored changed."""

    def fault(handler: Any) -> bool:
        if handler.command == "PUT":
            handler.body = change(handler.body)
        status, body, headers = handler.result()
        if handler.command == "GET" and body:
            body = change(body)
            if "Content-Range" in headers:
                start = int(headers["Content-Range"].split()[1].split("-")[0])
                end = start + len(body) - 1
                headers["Content-Range"] = f"bytes {start}-{end}/{end + 1}"
        handler.answer(status, body, headers)
        return True

    return fault


def _flipped(data: bytes) -> bytes:
    return bytes([*data[:-30], *(byte ^ 0x10 for byte in data[-30:-20]), *data[-20:]])


def _hanging(handler: Any) -> bool:
    handler.hang()
    return True


FAULTS: dict[str, Fault] = {
    "refused": _refused,
    "failing before": _failing,
    "failing after": _failing_after,
    "cut off": _cut_off,
    "heard twice": _heard_twice,
    "gone": _gone,
    "shorter": _changed(lambda data: data[: len(data) // 2]),
    "other bytes": _changed(_flipped),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", MOVES)
def test_each_request_of_each_move_may_fail(
    sealed: Path, said: Answers, server: ObjectServer, tmp_path: Path, name: str, fault: str
) -> None:
    """Once, or from then on: the move succeeds or says why not; the next run of it succeeds."""
    failed = number = 0
    prepared = Path(shutil.copy(sealed, tmp_path / "prepared.db"))
    move = prepared_for(partial(SqliteEngine, prepared), server.url, name)
    objects = dict(server.objects)
    while True:
        path = Path(shutil.copy(prepared, tmp_path / f"store-{number}.db"))
        server.objects.clear()
        server.objects.update(objects)
        left = [number]

        def sometimes(handler: Any, left: list[int] = left, lasts: bool = number % 2 == 0) -> bool:
            left[0] -= 1
            is_due = left[0] == -1 or (lasts and left[0] < 0)
            return is_due and FAULTS[fault](handler)

        engine = SqliteEngine(path)
        server.fault = sometimes
        try:
            moved(engine, move)
        except (StorageError, CorruptStoreError) as error:
            failed += 1
            said_so = str(error)
        else:
            said_so = f"{server.url} .parquet"
        finally:
            server.fault = None
        assert server.url in said_so
        assert ".parquet" in said_so
        assert pages(engine.read, Query()) == said.slices
        engine.close()
        _is_repeated(path, said, server, move)
        if left[0] >= 0:
            break
        number += 1
    assert number
    assert failed or fault in {"heard twice", "failing after"} or (name, fault) in HARMLESS


HARMLESS = {
    ("sweep", "gone"),
    ("sweep", "other bytes"),
    ("sweep", "shorter"),
    ("archive", "other bytes"),
}
"""What a move doesn't look at: what was uploaded by its size, and that it is gone already."""


def _is_repeated(path: Path, said: Answers, server: ObjectServer, move: Move) -> None:
    """The next run of a move comes to its end, and takes what the last one has left over.

    An object that was stored damaged is found before the store's own copy goes, and made anew.
    """
    engine = SqliteEngine(path)
    try:
        moved(engine, move)
        if isinstance(move, Archive):
            try:
                moved(engine, Evict(move.last))
            except CorruptStoreError:
                moved(engine, Restore(move.last))
                moved(engine, move)
                moved(engine, Evict(move.last))
        moved(engine, Sweep(1 << 60))
        used = {one.object.name for one in engine.segments() if one.object is not None}
        # what is uploaded by a request that was given up on may come later: nobody lists it
        assert used <= set(server.objects)
    finally:
        engine.close()
    _is_whole(path, said)


def test_no_move_looks_at_a_list(sealed: Path, server: ObjectServer, tmp_path: Path) -> None:
    """Lists of some storages come late, and name what others keep there."""
    path = Path(shutil.copy(sealed, tmp_path / "store.db"))
    server.objects["foreign"] = b"of somebody else"
    lasts = [segment.last for segment in aged(partial(SqliteEngine, path), server.url)]
    engine = SqliteEngine(path)
    moved(engine, Merge(tuple(lasts), server.url))
    for last in lasts:
        moved(engine, Restore(last))
    moved(engine, Sweep(1 << 60))
    engine.close()
    assert server.objects == {"foreign": b"of somebody else"}
    assert ("GET", "bucket") not in server.asked
    assert not any(method == "GET" and "parquet" not in name for method, name in server.asked)


def test_a_storage_that_cannot_delete_keeps_no_other_from_it(
    sealed: Path, server: ObjectServer, tmp_path: Path
) -> None:
    path = Path(shutil.copy(sealed, tmp_path / "store.db"))
    engine = SqliteEngine(path)
    first, second, _ = engine.segments()
    folder = object_storage.object_url(tmp_path / "archive")
    moved(engine, Archive(first.last, server.url))
    moved(engine, Archive(second.last, folder))
    moved(engine, Restore(first.last))
    moved(engine, Restore(second.last))
    server.fault = _refused
    with pytest.raises(StorageError, match="can't delete"):
        moved(engine, Sweep(1 << 60))
    assert object_storage.ObjectStorage(folder).names() == []
    assert len(server.objects) == 1
    server.fault = None
    moved(engine, Sweep(1 << 60))
    assert server.objects == {}
    engine.close()


def test_a_storage_that_does_not_answer_is_given_up(
    sealed: Path,
    said: Answers,
    server: ObjectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        object_storage, "_TIMEOUTS", {"connect_timeout": "200ms", "timeout": "200ms"}
    )
    path = Path(shutil.copy(sealed, tmp_path / "store.db"))
    server.fault = _hanging
    engine = SqliteEngine(path)
    last = engine.segments()[0].last
    with pytest.raises(StorageError, match=r"s3://bucket/store: can't write .*\.parquet"):
        moved(engine, Archive(last, server.url))
    assert answers(engine) == said
    server.fault = None
    server.released.set()
    engine.close()


# Damaged objects


class _Archived(msgspec.Struct):
    """A store of which all segments are in a folder, and what it answers while they are whole."""

    path: Path
    folder: Path
    segments: list[Segment]
    readings: dict[str, tuple[Callable[[Engine], Any], Any]]

    def object_of(self, number: int) -> Path:
        found = self.segments[number].object
        assert isinstance(found, ArchiveObject)
        return self.folder / found.name


@pytest.fixture
def archived(sealed: Path, said: Answers, tmp_path: Path) -> _Archived:
    path = Path(shutil.copy(sealed, tmp_path / "store.db"))
    folder = tmp_path / "archive"
    segments = aged(partial(SqliteEngine, path), object_storage.object_url(folder))
    engine = SqliteEngine(path)
    assert answers(engine) == said
    readings = {name: (read, read(engine)) for name, read in all_readings(said)}
    engine.close()
    return _Archived(path, folder, segments, readings)


def _harm(archived: _Archived, numbers: list[int], *, every: int = 1) -> int:
    """Check that what needs these objects fails, and nothing else; how many readings did."""
    engine = SqliteEngine(archived.path)
    problems = list(engine.check())
    for number in numbers:
        segment = archived.segments[number]
        where = f"segment of positions {segment.first} to {segment.last}"
        named = [problem for problem in problems if problem.where == where]
        assert len(named) == 1, problems
        assert archived.object_of(number).name in named[0].what
    assert len(problems) == len(numbers), problems
    engine.close()
    failed = 0
    for read, due in list(archived.readings.values())[::every]:
        engine = SqliteEngine(archived.path)
        try:
            assert read(engine) == due
        except CorruptStoreError as error:
            failed += any(archived.object_of(number).name in str(error) for number in numbers)
        finally:
            engine.close()
    return failed


def test_objects_that_are_gone(archived: _Archived) -> None:
    archived.object_of(0).unlink()
    archived.object_of(2).unlink()
    assert _harm(archived, [0, 2], every=3) > 40


def test_a_folder_that_is_gone_is_no_damage(archived: _Archived, said: Answers) -> None:
    """A disk that isn't mounted: nothing says that the objects are lost."""
    away = archived.folder.rename(archived.folder.with_name("unmounted"))
    engine = SqliteEngine(archived.path)
    with pytest.raises(StorageError, match="there is no folder") as error:
        answers(engine)
    assert not isinstance(error.value, CorruptStoreError)
    assert len(list(engine.check())) == 3
    away.rename(archived.folder)
    assert answers(engine) == said
    engine.close()


def test_objects_that_are_cut_or_longer(archived: _Archived) -> None:
    path = archived.object_of(1)
    whole = path.read_bytes()
    for size in (0, 3, 8, 300, len(whole) // 2, len(whole) - 4, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert _harm(archived, [1], every=31)
    path.write_bytes(whole + b"more")
    engine = SqliteEngine(archived.path)
    assert [problem.where for problem in engine.check()] in ([], ["segment"])
    engine.close()


def test_objects_with_flipped_bits(archived: _Archived, said: Answers) -> None:
    """Nothing is read differently, wherever it is; a flip where nobody looks does no harm."""
    path = archived.object_of(1)
    whole = path.read_bytes()
    chance = random.Random(3)
    places = [*chance.sample(range(len(whole)), 90), *range(len(whole) - 12, len(whole))]
    failed = 0
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        engine = SqliteEngine(archived.path)
        problems = list(engine.check())
        try:
            assert answers(engine) == said
        except CorruptStoreError as error:
            failed += path.name in str(error)
            named = [path.name in problem.what for problem in problems]
        else:
            named = [True] * (1 + len(problems))
        finally:
            engine.close()
        assert named == [True]
    assert failed > 40


def test_objects_in_each_others_place(archived: _Archived) -> None:
    one, other = archived.object_of(0), archived.object_of(1)
    swapped = one.read_bytes(), other.read_bytes()
    other.write_bytes(swapped[0])
    one.write_bytes(swapped[1])
    assert _harm(archived, [0, 1], every=5) > 20


def test_the_object_of_another_store(archived: _Archived, tmp_path: Path) -> None:
    """It has the same positions, and is whole: but it isn't what was archived."""
    path = tmp_path / "other.db"
    with open_store(path, events=[Entry]) as store:
        fill(store, 90, "another")
    engine = SqliteEngine(path)
    seal_all(engine, SegmentSize(slices=40, frame=4, frames=2), 220)
    engine.close()
    foreign = aged(partial(SqliteEngine, path), object_storage.object_url(tmp_path / "foreign"))[
        1
    ].object
    assert foreign is not None
    shutil.copy(tmp_path / "foreign" / foreign.name, archived.object_of(1))
    assert _harm(archived, [1], every=7) > 10


def test_a_footer_that_lies(archived: _Archived) -> None:
    """Whole row groups, and a footer that says the same of others: the digest tells."""
    path = archived.object_of(1)
    data = path.read_bytes()
    reader = ObjectReader.held("it", data)
    groups = reader.record().groups
    slices = [reader.slices(number, group.sha256) for number, group in enumerate(groups)]
    writer = ObjectWriter()
    for group in slices:
        last = msgspec.structs.replace(group[-1], recorded_at=group[-1].recorded_at + 1)
        writer.add([*group[:-1], last])
    writer.groups[:] = groups
    path.write_bytes(writer.finish())
    assert _harm(archived, [1], every=7) > 10


def test_a_check_reads_each_object_once(sealed: Path, server: ObjectServer, tmp_path: Path) -> None:
    path = Path(shutil.copy(sealed, tmp_path / "store.db"))
    segments = aged(partial(SqliteEngine, path), server.url)
    groups = 0
    for segment in segments:
        assert segment.object is not None
        reader = ObjectReader.held("it", server.objects[segment.object.name])
        groups += len(reader.record().groups)
    server.asked.clear()
    engine = SqliteEngine(path)
    assert list(engine.check()) == []
    engine.close()
    assert server.count("GET") <= groups + len(segments)
    assert groups > 6


def test_an_object_that_was_moved_meanwhile_is_looked_for_again(
    sealed: Path, said: Answers, tmp_path: Path
) -> None:
    """A page is found to be in an object; before that is read, it is merged away and deleted."""
    path = Path(shutil.copy(sealed, tmp_path / "store.db"))
    url = object_storage.object_url(tmp_path / "archive")
    lasts = [segment.last for segment in aged(partial(SqliteEngine, path), url)]
    reader, mover = SqliteEngine(path), SqliteEngine(path)
    found = []
    for move in (Merge(tuple(lasts), url), Restore(lasts[0])):
        with pytest.raises(NotFetchedError) as missing:
            reader.stored_commit(said.slices[0].commit_id)
        moved(mover, move)
        moved(mover, Sweep(1 << 60))
        missing.value.fetch()
        with contextlib.suppress(NotFetchedError):
            found.append(reader.stored_commit(said.slices[0].commit_id))
    assert found == [said.commits[0]]
    assert answers(reader) == said
    mover.close()
    reader.close()


# A storage that hangs


def _archived_at(server: ObjectServer, sealed: Path, tmp_path: Path) -> Path:
    path = Path(shutil.copy(sealed, tmp_path / "store.db"))
    aged(partial(SqliteEngine, path), server.url)
    return path


def _is_waited_for(server: ObjectServer, requests: int) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while server.under_way < requests:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_tasks_write_and_read_while_others_wait_for_an_archive(
    sealed: Path, server: ObjectServer, said: Answers, tmp_path: Path
) -> None:
    """More of them than there are threads for reading; one of them repeats a commit."""
    path = _archived_at(server, sealed, tmp_path)

    async def all_read(store: aio.Store, query: Query) -> list[int]:
        return [one.position async for one in store.read(query)]

    async def main() -> None:
        async with aio.open_store(path, events=[Entry]) as store:
            server.fault = _hanging
            waiting: list[asyncio.Task[Any]] = [
                asyncio.create_task(all_read(store, Query().after(after)))
                for after in (0, 0, 30, 60, 90, 120, 150, 180, 200)
            ]
            backend = store.kernel.backend
            waiting.append(asyncio.create_task(backend.stored_commit(said.slices[40].commit_id)))
            waiting.append(asyncio.create_task(backend.position_at(said.slices[9].recorded_at)))
            waiting.append(asyncio.create_task(store.commit(_repeat(said))))
            await asyncio.to_thread(_is_waited_for, server, 3)
            for number in range(5):
                key = f"meanwhile-{number}"
                writes = [Write("single-1", entries(key, 2))]
                made_now = int(time.time() * 1_000) << 80 | 7 << 76 | 2 << 62 | number
                await store.commit(Commit(writes, id=UUID(int=made_now)))
                await store.append("single-2", entries(key, 1))
            head = (await store.head()).position
            assert await all_read(store, Query().after(head - 15)) == [*range(head - 14, head + 1)]
            assert not any(task.done() for task in waiting)
            server.fault = None
            server.released.set()
            *reads, commit, moment, receipt = await asyncio.gather(*waiting)
            assert reads[0][:220] == [*range(1, 221)]
            assert commit[0].commit_id == said.slices[40].commit_id
            assert moment == said.slices[9].position
            assert receipt.commit_id.bytes == said.slices[0].commit_id

    asyncio.run(main())


def test_threads_write_while_another_waits_for_an_archive(
    sealed: Path, server: ObjectServer, said: Answers, tmp_path: Path
) -> None:
    path = _archived_at(server, sealed, tmp_path)
    with open_store(path, events=[Entry]) as store, ThreadPoolExecutor(8) as threads:
        server.fault = _hanging
        waiting: list[Future[Any]] = [threads.submit(store.commit, _repeat(said)) for _ in range(2)]
        waiting.append(threads.submit(lambda: len(list(store.read(Query().up_to(220))))))
        _is_waited_for(server, 1)
        writing = [threads.submit(store.append, "single-3", entries(f"m{n}", 1)) for n in range(9)]
        for one in writing:
            one.result(PATIENCE_SECONDS)
        assert not any(one.done() for one in waiting)
        server.fault = None
        server.released.set()
        first, second, count = [one.result(PATIENCE_SECONDS) for one in waiting]
        assert first == second
        assert count == 220
        assert store.check() == []


def _repeat(said: Answers) -> Commit:
    """The first commit once more, which an archive has to tell."""
    (first,) = said.commits[0]
    events = [
        Entry(**data) for _, _, data, *_ in msgspec.json.decode(first.body, type=list[list[Any]])
    ]
    return Commit([Write(first.stream, events)], id=UUID(bytes=first.commit_id))
