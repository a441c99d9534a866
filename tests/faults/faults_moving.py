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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from tests.faults.faults_sealing import die, in_child, run, small_steps

from everwhen.backends.sqlite.engine import SqliteEngine
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


def moved(engine: SqliteEngine, move: Move) -> Segment | None:
    """Make a move, to its end."""
    moving = engine.moving(move)
    run(engine, moving.steps())
    return moving.segment


def aged(path: Path, url: str, *, evicts: bool = True) -> list[Segment]:
    """Archive all segments of a file."""
    engine = SqliteEngine(path)
    for segment in engine.segments():
        moved(engine, Archive(segment.last, url))
        if evicts:
            moved(engine, Evict(segment.last))
    try:
        return engine.segments()
    finally:
        engine.close()


def prepared_for(path: Path, url: str, name: str) -> Move:
    """Bring a file with three segments to where a move of that name can be made; that move."""
    if name.startswith("archive"):
        engine = SqliteEngine(path)
        last = engine.segments()[0].last
        engine.close()
        return Archive(last, url, reads_back=name != "archive")
    lasts = [segment.last for segment in aged(path, url, evicts=name != "evict")]
    if name == "sweep":
        engine = SqliteEngine(path)
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
