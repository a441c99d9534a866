"""Stores whose history is moved, and killed meanwhile: python -m tests.faults.faults_sealing ROLE FOLDER …

``cut`` seals copies of FOLDER/whole.db, in a child each, which kills itself: after a step, or
within one, before a statement. ``hammer`` has a writer and a mover at work on one file, kills them
again and again, and prints what the writer had acknowledged; a reader looks on from beside.
Like the programs beside, it imports everything and opens nothing, so a child is one fork away.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import apsw
import msgspec
from tests.faults.faults_ledger import Entry, some_commit

from everwhen import BusyError, Query, Store, open_store
from everwhen.backends import segment_packing
from everwhen.backends.engine import Engine, NotFetchedError
from everwhen.backends.sqlite import sealing, segment_tables
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.system import compression
from everwhen.system.object_storage import object_url
from everwhen.vocabulary.contract import (
    Archive,
    Evict,
    Merge,
    Move,
    Restore,
    Seal,
    Segment,
    SegmentSize,
    StoredSlice,
    StreamInfo,
    Sweep,
)
from everwhen.vocabulary.paging import ReadPage, next_page

P = ParamSpec("P")
T = TypeVar("T")

SMALL = SegmentSize(slices=48, frame=4, frames=3)
OTHER = SegmentSize(slices=31, frame=3, frames=2)
"""Another size: what is left over of one that was cut off is of no use to the next."""


def small_steps(put: Callable[[object, str, int], None] = setattr) -> None:
    """From here on a seal is many steps, and has a dictionary, however little there is."""
    put(segment_packing, "STEP_BYTES", 2_000)
    put(sealing, "STEP_ROWS", 20)
    put(segment_tables, "GROUP_EVENTS", 20)
    put(compression, "DICTIONARY_BYTES", 1_024)


# What a store says


class Answers(msgspec.Struct):
    """All that a store has, asked for in several ways."""

    slices: list[StoredSlice]
    backwards: list[StoredSlice]
    by_query: list[list[StoredSlice]]
    streams: list[StreamInfo]
    commits: list[list[StoredSlice]]
    moments: list[int]


QUERIES = (
    Query().stream("shared-3"),
    Query().stream("shared-3").backwards(),
    Query().stream("single-7", "shared-1"),
    Query().tags("commit:k5"),
    Query().tags("commit:k33").backwards(),
    Query().types(Entry),
    Query().category("single"),
)


def fetching(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The call's result, once what it needs of an archive is here."""
    while True:
        try:
            return call(*args, **kwargs)
        except NotFetchedError as missing:
            missing.fetch()


def pages(read: ReadPage, query: Query, events: int = 70) -> list[StoredSlice]:
    """The slices of a query, a page at a time."""
    found: list[StoredSlice] = []
    while True:
        page = fetching(read, query, events)
        found += page.slices
        if page.end:
            return found
        query = next_page(query, page)


def answers(engine: Engine) -> Answers:
    """What the store answers now."""
    slices = pages(engine.read, Query())
    ids = list(dict.fromkeys(stored.commit_id for stored in slices))
    return Answers(
        slices,
        pages(engine.read, Query().backwards()),
        [matching(engine.read, query) for query in QUERIES],
        engine.streams(None, "", 1_000),
        [fetching(engine.stored_commit, one) for one in ids],
        [
            fetching(engine.position_at, stored.recorded_at - 1)
            for stored in slices[:: len(slices) // 7]
        ],
    )


def answers_of(path: Path) -> Answers:
    """What a store that nobody has open answers."""
    engine = SqliteEngine(path)
    try:
        return answers(engine)
    finally:
        engine.close()


def matching(read: ReadPage, query: Query) -> list[StoredSlice]:
    """The slices of a query, without those that a page has beyond its matches."""
    (selector,) = query.selectors
    found = pages(read, query, 20)
    if selector.streams:
        return [stored for stored in found if stored.stream in selector.streams]
    if selector.tags:
        (tag,) = selector.tags
        return [stored for stored in found if f'"{tag}"'.encode() in stored.body]
    return [
        stored
        for stored in found
        if not selector.categories or stored.stream.startswith(tuple(selector.categories))
    ]


Reading = tuple[str, Callable[[Engine], Any]]


def ranged(low: int, high: int, *, reverse: bool) -> Reading:
    query = Query().after(low).up_to(high)
    query = query.backwards() if reverse else query
    return repr((low, high, reverse)), lambda engine: pages(engine.read, query)


def queried(query: Query) -> Reading:
    return repr(query), lambda engine: matching(engine.read, query)


def all_readings(said: Answers) -> Iterator[Reading]:
    """Every way to read the store that goes through segments."""
    head = said.slices[-1].position
    for low in range(0, head, 14):
        for high in (low + 1, low + 13, low + 50, low + 120, head):
            yield ranged(low, high, reverse=False)
            yield ranged(low, high, reverse=True)
    for query in QUERIES:
        yield queried(query)
        yield queried(query.after(60).up_to(190))
    for name in ("shared-3", "shared-5"):
        for least, most in ((1, 9), (4, 12), (8, 30)):
            query = Query().stream(name).from_version(least).to_version(most)
            yield queried(query)
            yield queried(query.backwards())
    for stored in said.slices[::3]:
        moment = stored.recorded_at
        yield f"commit of {stored.position}", Asked("stored_commit", stored.commit_id)
        yield f"moment of {stored.position}", Asked("position_at", moment)
        yield f"before {stored.position}", Asked("position_at", moment - 1)
    for stream in {stored.stream for stored in said.slices}:
        yield stream, Asked("stream", stream)


class Asked:
    """A question of an engine."""

    def __init__(self, method: str, about: object) -> None:
        self._method = method
        self._about = about

    def __call__(self, engine: Engine) -> Any:
        return fetching(getattr(engine, self._method), self._about)


def fill(store: Store, commits: int, seed: str = "seal", start: int = 0) -> None:
    """Append commits, of which some have ids that say nothing of their time."""
    chance = random.Random(seed)
    for number in range(start, start + commits):
        commit = some_commit(f"k{number}", chance)
        if number % 3 == 0:
            commit = msgspec.structs.replace(commit, id=UUID(int=chance.getrandbits(128)))
        store.commit(commit)


def seal_all(engine: Engine, size: SegmentSize, up_to: int | None = None) -> list[Segment]:
    """Seal all that is older than the position, a segment at a time."""
    made: list[Segment] = []
    while True:
        work = engine.moving(Seal(engine.head().position if up_to is None else up_to, size))
        run(engine, work.steps())
        if work.segment is None:
            return made
        made.append(work.segment)


def run(engine: Engine, steps: Iterator[Callable[[], None]], most: int | None = None) -> int:
    """Take the steps, or at most so many of them; how many there were."""
    taken = 0
    for step in itertools.islice(steps, most):
        with engine.lock.mutex:
            step()
        taken += 1
    return taken


def leftovers(path: Path) -> dict[str, int]:
    """How many rows are where none belongs once a seal has ended."""
    connection = apsw.Connection(str(path))
    border = connection.execute("SELECT coalesce(max(last), 0) FROM segments").get
    found = {
        name: connection.execute(f"SELECT count(*) FROM {name} WHERE {where} ?", (border,)).get
        for name, where in (
            ("slices", "position <="),
            ("marks", "position <="),
            ("chunks", "last >"),
            ("postings", "segment >"),
        )
    }
    connection.close()
    return {name: count for name, count in found.items() if count}


# A seal that is cut off


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], None]) -> bool:
    """Whether the work came to its end, in a child; it may kill itself, and nothing else."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if status not in {0, signal.SIGKILL}:
        sys.exit(f"a child ended with {status}")
    return status == 0


def seal_cut_off(path: Path, *, steps: int | None = None, statements: int | None = None) -> None:
    """Seal one segment, and die after so many steps, or before the statement of that number."""
    engine = SqliteEngine(path)
    left = [statements]

    def trace(_: object, sql: str, __: object) -> bool:
        if left[0] is not None:
            if not left[0]:
                die()
            left[0] -= 1
        return True

    engine._transactions.connection.exec_trace = trace
    run(engine, engine.moving(Seal(engine.head().position, SMALL)).steps(), steps)
    if steps is not None:
        die()


def statements_of(path: Path) -> list[str]:
    """The statements of one seal."""
    engine = SqliteEngine(path)
    said: list[str] = []

    def trace(_: object, sql: str, __: object) -> bool:
        said.append(sql)
        return True

    engine._transactions.connection.exec_trace = trace
    run(engine, engine.moving(Seal(engine.head().position, SMALL)).steps())
    engine.close()
    return said


def cut(folder: Path, seed: str) -> None:
    """Leave a file for each way in which a seal can be cut off."""
    small_steps()
    whole, scrap = folder / "whole.db", folder / "scrap.db"

    def copied(name: str) -> Path:
        return Path(shutil.copy(whole, folder / name))

    shutil.copy(whole, scrap)
    listed = folder / "statements.json"
    in_child(lambda: void(listed.write_text(json.dumps(statements_of(scrap)))))
    said: list[str] = json.loads(listed.read_text())
    steps = said.count("COMMIT")
    for number in range(steps + 1):
        path = copied(f"step-{number:03}.db")
        assert not in_child(lambda n=number, p=path: seal_cut_off(p, steps=n))  # type: ignore[misc]
    turns = [n for n, sql in enumerate(said) if n and sql != said[n - 1] and "BEGIN" not in sql]
    chance = random.Random(seed)
    for number in sorted({*chance.sample(turns, 24), *chance.sample(range(len(said)), 12)}):
        path = copied(f"statement-{number:04}.db")
        assert not in_child(lambda n=number, p=path: seal_cut_off(p, statements=n))  # type: ignore[misc]
    print(steps)  # noqa: T201  read by the test


def void(_: object) -> None:
    """Nothing of it."""


# A writer, a mover and a reader


def write(path: Path, pipe: int, name: str) -> None:
    chance = random.Random(name)
    with open_store(path, events=[Entry]) as store:
        for number in range(10_000):
            key = f"{name}.{number}"
            commit = some_commit(key, chance)
            if chance.random() < 0.4:
                commit = msgspec.structs.replace(commit, id=UUID(int=chance.getrandbits(128)))
            store.commit(commit)
            os.write(pipe, f"{key}\n".encode())
            if number > 100:
                time.sleep(0.005)  # there is enough to read again for those who look on


def move(path: Path, pipe: int, name: str) -> None:
    chance = random.Random(name)
    engine = SqliteEngine(path)
    while True:
        with contextlib.suppress(BusyError):
            for step in engine.moving(some_move(engine, chance)).steps():
                with engine.lock.mutex:
                    step()
                os.write(pipe, b".\n")
            if chance.random() < 0.3:
                for step in engine.compaction().steps():
                    with engine.lock.mutex:
                        step()
                    os.write(pipe, b".\n")
        os.write(pipe, b"-\n")


def some_move(engine: SqliteEngine, chance: random.Random) -> Move:
    """A move of any kind, into a folder beside the file and out of it."""
    segments = engine.segments()
    archived = [segment.last for segment in segments if segment.object is not None]
    kind = chance.choice((Seal, Seal, Archive, Archive, Evict, Evict, Restore, Merge, Sweep))
    if kind is Sweep:
        return Sweep(1 << 60)
    url = object_url(engine.path.with_name("archive"))
    if kind is Archive and segments:
        return Archive(chance.choice(segments).last, url, reads_back=chance.random() < 0.5)
    if kind is Merge and archived:
        return Merge(tuple(chance.sample(archived, min(4, len(archived)))), url)
    if kind is Evict and archived:
        return Evict(chance.choice(archived))
    if kind is Restore and archived:
        return Restore(chance.choice(archived))
    up_to = engine.head().position - chance.randrange(9)
    return Seal(up_to, chance.choice((SMALL, OTHER)))


def look_on(path: Path, pipe: int, _: str) -> None:
    """Read all of it again and again: what was there once stays there, and as it was."""
    engine = SqliteEngine(path, read_only=True)
    known: list[StoredSlice] = []
    while True:
        found = pages(engine.read, Query(), 500)
        backwards = pages(engine.read, Query().backwards(), 500)[::-1]
        fault = ""
        if found[: len(known)] != known or backwards[: len(found)] != found:
            fault = "what was read once has changed"
        if any(one.position - one.count != last for one, last in neighbours(found)):
            fault = "positions are missing, or there twice"
        known = found
        os.write(pipe, f"{len(known)} {fault}\n".encode())


def neighbours(slices: list[StoredSlice]) -> Iterator[tuple[StoredSlice, int]]:
    """Each slice, and the position of the one before it."""
    return zip(slices, [0, *(stored.position for stored in slices)], strict=False)


class Child:
    """A child at work, and what it says."""

    def __init__(self, work: Callable[[Path, int, str], None], path: Path, name: str) -> None:
        self._pipe, writing = os.pipe()
        self._rest = b""
        self.pid = os.fork()
        if not self.pid:
            try:
                os.close(self._pipe)
                work(path, writing, name)
            except BaseException as error:  # noqa: BLE001  whatever it is has to be said
                os.write(writing, f"! {error!r:.900}\n".replace("\n", " ").encode() + b"\n")
            finally:
                os._exit(1)
        os.close(writing)

    def heard(self, lines: int | None = None) -> list[str]:
        """At least so many lines, or all to the end."""
        said: list[str] = []
        while lines is None or len(said) < lines:
            data = os.read(self._pipe, 1 << 16)
            if not data:
                break
            *whole, self._rest = (self._rest + data).split(b"\n")
            said += [line.decode() for line in whole]
        faults = [line for line in said if line.startswith("!")]
        if faults:
            sys.exit(f"a child failed: {faults}")
        return said

    def killed(self) -> list[str]:
        """What it said until it was killed."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        said = self.heard()
        os.close(self._pipe)
        return said


def hammer(path: Path, rounds: int, seed: str) -> None:
    small_steps()
    gc.freeze()
    chance = random.Random(seed)
    acknowledged: list[str] = []
    moved = 0
    writer, mover = Child(write, path, f"{seed}.w"), Child(move, path, f"{seed}.m")
    reader = Child(look_on, path, "")
    seen = reader.heard(1)
    for number in range(rounds):
        way = chance.randrange(3)
        acknowledged += writer.heard(chance.randrange(1, 16))
        moved += len(mover.heard(chance.randrange(1, 30)))
        if way != 0:
            acknowledged += writer.killed()
            writer = Child(write, path, f"{seed}.w{number}")
        if way != 1:
            moved += len(mover.killed())
            mover = Child(move, path, f"{seed}.m{number}")
        seen += reader.heard(1)
    acknowledged += writer.killed()
    moved += len(mover.killed())
    seen += reader.heard(1) + reader.killed()
    faults = [line for line in seen if line.split(" ", 1)[1]]
    if faults:
        sys.exit(f"the reader: {faults[:3]}")
    print(json.dumps({"acknowledged": acknowledged, "moved": moved, "seen": len(seen)}))  # noqa: T201


if __name__ == "__main__":
    if sys.argv[1] == "cut":
        cut(Path(sys.argv[2]), sys.argv[3])
    else:
        hammer(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
