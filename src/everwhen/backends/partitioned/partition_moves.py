"""Moving the old history of partitions, and compacting their files: each for itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec

from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.system.fair_lock import FairLock
from everwhen.vocabulary.contract import Compaction, Merge, Move, Retire, Seal, Segment, Sweep
from everwhen.vocabulary.errors import UnsupportedError

Step = Callable[[], None]


class PartitionMove:
    """One move of history: in the partition that it is about, or in each.

    Sealing makes one segment, in the first partition that has enough for one. Raises
    `UnsupportedError` for a move that is about several partitions at once.
    """

    def __init__(
        self, engines: Sequence[SqliteEngine], settled: int, move: Move, *, side_by_side: bool
    ) -> None:
        self.segment: Segment | None = None
        if side_by_side and not isinstance(move, Seal):
            raise UnsupportedError(
                "an archived object has all events from one position to another, and the segments "
                "of partitions that are written side by side don't; seal their history instead, or "
                "partition by time or size"
            )
        if isinstance(move, Retire):
            raise UnsupportedError(
                "what is retired ends at one position, and the segments of partitions don't; keep "
                "the store's history, or copy what is to stay into another store"
            )
        self._move = move
        if isinstance(move, Seal):
            self._move = msgspec.structs.replace(move, up_to=min(move.up_to, settled))
        if isinstance(move, Seal | Sweep):
            self._engines = engines
        else:
            self._engines = _having(engines, move.lasts if isinstance(move, Merge) else [move.last])

    def steps(self) -> Iterator[Step]:
        """Steps, each to be called with the engine's ``lock`` held."""
        for engine in self._engines:
            moving = engine.moving(self._move)
            for step in moving.steps():
                yield partial(_run, engine, step)
            if moving.segment is not None:
                self.segment = moving.segment
                return


def _having(engines: Sequence[SqliteEngine], lasts: Sequence[int]) -> list[SqliteEngine]:
    """The partition that has the segments which end there; none where nobody has them."""
    wanted = set(lasts)
    found = [
        engine for engine in engines if wanted & {segment.last for segment in engine.segments()}
    ]
    if len(found) > 1:
        raise UnsupportedError(
            f"the segments up to {sorted(wanted)} are in several partitions, and an object has "
            f"those of one; merge them partition by partition"
        )
    return found


class PartitionCompaction:
    """Making all files smaller, one after another."""

    def __init__(self, engines: Sequence[SqliteEngine], held: FairLock) -> None:
        self.progress = (0, 0)
        self.is_journal_long = False
        self._works = [(engine, engine.compaction()) for engine in engines]
        self._held = held

    def steps(self) -> Iterator[Step]:
        """Steps, each to be called with the engine's ``lock`` held."""
        for engine, work in self._works:
            for step in work.steps():
                given, free = zip(*(one.progress for _, one in self._works), strict=True)
                self.progress = sum(given), sum(free)
                self.is_journal_long = work.is_journal_long
                yield step if engine.lock is self._held else partial(_run, engine, step)

    def report(self) -> Compaction:
        """What it came to, in all files."""
        reports = [work.report() for _, work in self._works]
        return Compaction(sum(r.size_before for r in reports), sum(r.size_after for r in reports))


def _run(engine: SqliteEngine, step: Step) -> None:
    with engine.lock.turn(), engine.lock.mutex:
        step()
