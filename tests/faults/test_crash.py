"""A writer is killed at random moments, hundreds of times: what it had acknowledged is there."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from everwhen import Commit, Event, Query, Store, Write, open_store
from everwhen.vocabulary import Checkpoint, Receipt

KILLS = int(os.environ.get("EVERWHEN_KILLS", "200"))
AT_ONCE = 4


class Counted(Event):
    number: int
    note: str = ""


def writing(path: Path, acknowledged: int, seed: int) -> None:
    """The child: appends in every way there is, and says of each commit when it returned."""
    dice = random.Random(seed)
    with open_store(path, events=[Counted]) as store:
        number = 0
        while True:
            number += 1
            match dice.randrange(4):
                case 0:
                    positions = [one(store, number).position]
                case 1:
                    positions = [several_streams(store, number)]
                case 2:
                    positions = a_batch(store, number)
                case _:
                    positions = [a_read_model(store)]
            os.write(acknowledged, b"".join(b"%d\n" % position for position in positions))


def one(store: Store, number: int) -> Receipt:
    return store.append("one", [Counted(number)])


def several_streams(store: Store, number: int) -> int:
    writes = [Write(f"many-{i}", [Counted(number, "x" * 3_000)] * 2) for i in range(3)]
    return store.commit(Commit(writes)).position


def a_batch(store: Store, number: int) -> list[int]:
    commits = [Commit([Write(f"batch-{i}", [Counted(number)])]) for i in range(20)]
    return [receipt.position for receipt in store.commit_batch(commits)]


def a_read_model(store: Store) -> int:
    """How many events there are, kept in a table together with how far it has counted."""
    known = store.checkpoint("count")
    since = known.position if known is not None else 0
    events = list(store.read(Query().after(since)))
    position = events[-1].position if events else since
    with store.transaction() as transaction:
        transaction.execute("UPDATE counted SET events = events + ?", [len(events)])
        transaction.save_checkpoint(Checkpoint("count", position))
    return position


def check(path: Path, acknowledged: int) -> None:
    with open_store(path, events=[Counted]) as store:
        assert store.check() == []
        assert store.head().position >= acknowledged
        commits: dict[object, list[str]] = {}
        for event in store.read():
            commits.setdefault(event.commit_id, []).append(event.stream)
        for streams in commits.values():
            whole = ["many-0", "many-0", "many-1", "many-1", "many-2", "many-2"]
            assert streams == whole or len(streams) == 1, "a commit is there whole or not at all"
        counted = store.checkpoint("count")
        with store.transaction() as transaction:
            ((events,),) = transaction.execute("SELECT events FROM counted")
        assert events == (counted.position if counted is not None else 0)


def forked(path: Path, seed: int) -> tuple[int, int]:
    """A child that begins to write at once, and the pipe on which it acknowledges."""
    reading, writing_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            writing(path, writing_end, seed)
        finally:
            os._exit(1)
    os.close(writing_end)
    return child, reading


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_what_was_acknowledged_survives_being_killed(tmp_path: Path) -> None:
    dice = random.Random(20)
    paths: list[Path] = []
    acknowledged = 0
    for round_ in range(KILLS // AT_ONCE):
        if round_ % 4 == 0:
            paths = [fresh(tmp_path / f"{round_}-{i}.db") for i in range(AT_ONCE)]
        children = [forked(path, round_) for path in paths]
        for path, (child, pipe) in zip(paths, children, strict=True):
            time.sleep(dice.uniform(0.001, 0.02))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            with os.fdopen(pipe) as said:
                lines = said.read().split("\n")[:-1]
            acknowledged += len(lines)
            check(path, max(map(int, lines), default=0))
    assert acknowledged > KILLS, "the children got to write something"


def fresh(path: Path) -> Path:
    with open_store(path) as store, store.transaction() as transaction:
        transaction.execute("CREATE TABLE counted (events INTEGER)")
        transaction.execute("INSERT INTO counted VALUES (0)")
    return path
