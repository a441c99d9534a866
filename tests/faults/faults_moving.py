"""History that moves to an archive and back, and is killed: python -m tests.faults.faults_moving FOLDER

FOLDER has ``whole.db``, ``archive`` and ``move``. For each point at which the move can be killed
it gets ``NUMBER.db`` and ``NUMBER.archive``, as they are after that. Like the programs beside, it
imports everything and opens nothing, so a child is one fork away.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from tests.faults.faults_sealing import Answers, die, in_child, pages, run, small_steps

from everwhen import Query
from everwhen.backends.engine import Engine
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.errors import BusyError, DeclarationError
from everwhen.system.durable_files import NewFile
from everwhen.system.object_storage import ObjectStorage
from everwhen.vocabulary.contract import (
    Archive,
    Evict,
    Merge,
    Move,
    Restore,
    Retire,
    Segment,
    Sweep,
)

STATEMENTS = int(os.environ.get("EVERWHEN_MOVING_STATEMENTS", "6"))
"""How many of a move's statements it is killed before, beside every step and every request."""


def moved(engine: Engine, move: Move) -> Segment | None:
    """Make a move, to its end."""
    moving = engine.moving(move)
    run(engine, moving.steps())
    return moving.segment


def aged(opened: Callable[[], Engine], url: str, *, evicts: bool = True) -> list[Segment]:
    """Archive all segments of a store."""
    engine = opened()
    for segment in engine.segments():
        moved(engine, Archive(segment.last, url))
        if evicts:
            moved(engine, Evict(segment.last))
    try:
        return engine.segments()
    finally:
        engine.close()


def prepared_for(opened: Callable[[], Engine], url: str, name: str) -> Move:
    """Bring a store with three segments to where a move of that name can be made; that move."""
    if name.startswith("archive"):
        engine = opened()
        last = engine.segments()[0].last
        engine.close()
        return Archive(last, url, reads_back=name != "archive")
    lasts = [segment.last for segment in aged(opened, url, evicts=name != "evict")]
    if name == "sweep":
        engine = opened()
        moved(engine, Restore(lasts[0]))
        moved(engine, Restore(lasts[1]))
        engine.close()
    moves: dict[str, Move] = {
        "evict": Evict(lasts[0]),
        "restore": Restore(lasts[1]),
        "merge": Merge((lasts[0], lasts[1]), url, reads_back=True),
        "sweep": Sweep(1 << 60),
        "retire": Retire(lasts[1], recorded=lasts[2] + 1),
    }
    return moves[name]


# Two movers


class Mover:
    """One engine that makes its moves again and again, a step at a time."""

    def __init__(self, engine: Engine, moves: Callable[[Engine], Iterator[Move]]) -> None:
        self.engine = engine
        self._moves = moves(self.engine)
        self._steps: Iterator[Callable[[], None]] = iter(())
        self.is_active = False
        self.began = 0
        """When the move began, in microseconds."""
        self.made = self.stopped = 0

    def go_on(self) -> None:
        """Take one step more; once a move is done, or was stopped, of the next."""
        if not self.is_active:
            self._steps = self.engine.moving(next(self._moves)).steps()
            self.began = time.time_ns() // 1_000
        try:
            self.is_active = run(self.engine, self._steps, 1) == 1
            self.made += not self.is_active
        except (BusyError, DeclarationError):  # the latter of what the other has restored
            self.is_active = False
            self.stopped += 1


def move_among_each_other(
    opened: Callable[[], Engine], reader: Engine, url: str, said: Answers, seed: int
) -> None:
    """Two movers of one store, a step at a time: whoever begins last goes on.

    What became unused after a move had begun isn't swept as long as that goes on: in a store it is
    a day old by then.
    """
    chance = random.Random(seed)

    def some(engine: Engine) -> Iterator[Move]:
        while True:
            segments = engine.segments()
            last = chance.choice(segments).last
            archived = [segment.last for segment in segments if segment.object is not None]
            moves: list[Move] = [
                Archive(last, url, reads_back=chance.random() < 0.3),
                Evict(last),
                Restore(last),
                Sweep(min(mover.began for mover in movers) - 1),
            ]
            if archived:
                moves += [Merge(tuple(archived), url)]
            yield chance.choice(moves)

    movers = [Mover(opened(), some), Mover(opened(), some)]
    turn = movers[0]
    for number in range(240):
        if chance.random() < 0.25:
            turn = chance.choice(movers)
        turn.go_on()
        if number % 8 == 0:
            assert pages(reader.read, Query()) == said.slices
    for mover in movers:
        assert mover.made > 3
        assert mover.stopped > 1
        mover.engine.close()
    reader.close()


# A move that is cut off


class Points:
    """What a move does, a point for each: it is noted, and the process dies at one of them."""

    def __init__(self, death: int | None = None) -> None:
        self.said: list[str] = []
        self._death = death

    def reached(self, what: str) -> None:
        if len(self.said) == self._death:
            die()
        self.said.append(what)

    def traced(self, _: object, sql: str, __: object) -> bool:
        self.reached(sql)
        return True

    def around(self, owner: type, name: str) -> None:
        """Have a point before and after each call of a method."""
        real: Callable[..., Any] = getattr(owner, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            self.reached(f"before {name}")
            found = real(*args, **kwargs)
            self.reached(f"after {name}")
            return found

        setattr(owner, name, called)


def cut_off(path: Path, move: Move, points: Points) -> None:
    """Make a move, through its points."""
    engine = SqliteEngine(path)
    engine._transactions.connection.exec_trace = points.traced
    for name in ("make", "put", "read", "size", "delete"):
        points.around(ObjectStorage, name)
    points.around(NewFile, "finish")
    for step in engine.moving(move).steps():
        with engine.lock.mutex:
            step()
        points.reached("between two steps")


def chosen(said: list[str], chance: random.Random) -> list[int]:
    """The points to die at: all that are no statements, the end, and some statements."""
    others = ("before ", "after ", "between ")
    statements = {number for number, what in enumerate(said) if not what.startswith(others)}
    left_out = chance.sample(sorted(statements), max(0, len(statements) - STATEMENTS))
    return sorted({*range(len(said))} - {*left_out})


def cut(folder: Path) -> None:
    small_steps()
    whole, archive, before = folder / "whole.db", folder / "archive", folder / "before"
    move = msgspec.json.decode((folder / "move").read_bytes(), type=Move)
    archive.mkdir(exist_ok=True)
    archive.rename(before)
    listed = folder / "points"

    def made(path: Path, death: int | None) -> bool:
        shutil.copytree(before, archive)
        shutil.copy(whole, path)
        points = Points(death)

        def work() -> None:
            cut_off(path, move, points)
            listed.write_bytes(msgspec.json.encode(points.said))

        ended = in_child(work)
        archive.rename(path.with_suffix(".archive"))
        return ended

    assert made(folder / "whole-way.db", None)
    said = msgspec.json.decode(listed.read_bytes(), type=list[str])
    for number in chosen(said, random.Random(7)):
        assert not made(folder / f"{number:04}.db", number)


if __name__ == "__main__":
    cut(Path(sys.argv[1]))
