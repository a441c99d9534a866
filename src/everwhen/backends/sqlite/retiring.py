"""Retiring history: one row gives up all segments up to a position, then they are deleted.

What is kept of them is which positions they had and when, where each stream stood, and the ids of
commits: so positions and versions go on, and nothing is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import apsw

from everwhen.backends.moving import ReadsOnce, Work
from everwhen.backends.segment_packing import STEP_ROWS
from everwhen.backends.sqlite.statements import each, statements
from everwhen.vocabulary.contract import Retire

_SQL: Final = statements("retired")
_ARCHIVED: Final = statements("archived")
_SEALED: Final = statements("sealed")

_STEP_CHUNKS: Final = 64
"""How many chunks one transaction deletes: some megabyte."""


def retired(
    read: ReadsOnce[apsw.Connection], move: Retire, now: Callable[[], int]
) -> Iterator[Work[apsw.Connection]]:
    """The writes that retire segments."""
    yield partial(_switch, move, now())
    yield from cleared(read, now)


def cleared(
    read: ReadsOnce[apsw.Connection], now: Callable[[], int]
) -> Iterator[Work[apsw.Connection]]:
    """Delete what is left over of segments that are retired: nobody looks there."""
    while (chunk := read(_last_chunk)) is not None:
        yield partial(each, _SQL["drop_chunks"], [(chunk,)])
    while postings := read(_postings):
        yield partial(each, _SEALED["drop_posting"], postings)
    while (group := read(_last_group)) is not None:
        yield partial(_leave_objects, group, now())


def _switch(move: Retire, now: int, connection: apsw.Connection) -> None:
    connection.execute(_SQL["retire"], (move.recorded, now, move.last))


def _last_chunk(connection: apsw.Connection) -> int | None:
    found: int | None = connection.execute(_SQL["last_chunk"], (_STEP_CHUNKS,)).get
    return found


def _postings(connection: apsw.Connection) -> list[tuple[int, int]]:
    return list(connection.execute(_SQL["postings"], (STEP_ROWS,)))


def _last_group(connection: apsw.Connection) -> int | None:
    found: int | None = connection.execute(_SQL["last_group"], (STEP_ROWS,)).get
    return found


def _leave_objects(last: int, now: int, connection: apsw.Connection) -> None:
    connection.execute(_SQL["drop_groups"], (last,))
    connection.execute(_ARCHIVED["disuse_objects"], (now,))
