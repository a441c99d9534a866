"""What a log's tables say, held together: the slices, and what queries find them by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from everwhen.backends.commit_checks import SliceCheck, slice_problems
from everwhen.backends.index_terms import TAG, block_of, named_in
from everwhen.backends.postgres.sealed_bodies import SealedBodies, retired_end
from everwhen.backends.postgres.segment_check import SealedCheck
from everwhen.backends.postgres.statements import PostgresSession, in_schema
from everwhen.backends.postgres.terms import term_of, terms_of_block
from everwhen.vocabulary.contract import Problem, StoredSlice
from everwhen.vocabulary.streams import MAX_POSITION

_UNNAMED: Final = """
SELECT min(position), stream FROM log.slices LEFT JOIN log.streams ON streams.id = stream
WHERE name IS NULL GROUP BY stream
"""
_UNUSED: Final = """
SELECT name FROM log.streams WHERE NOT EXISTS (SELECT FROM log.slices WHERE stream = id)
"""
_MARKS: Final = """
SELECT term, position FROM log.marks
WHERE (term, position) IN (SELECT * FROM unnest(%s::bigint[], %s::bigint[]))
"""
_COUNT: Final = "SELECT count(*) FROM log.marks WHERE position > %s AND position <> %s"
_AT_ONCE: Final = 1_000


def problems(session: PostgresSession, schema: str, bodies: SealedBodies) -> Iterator[Problem]:
    """Every fault found in the tables: the slices are read once."""
    checking = SliceCheck()
    segments = SealedCheck(session, schema, checking)
    index = _Index(session, schema, retired_end(session, schema))
    yield from slice_problems(index.noted(segments.slices(0, bodies)), checking)
    yield from segments.problems()
    yield from index.problems()
    yield from _stream_problems(session, schema)
    if segments.is_all_read:
        yield from index.problems_beyond()


def hidden_problems(
    session: PostgresSession, schema: str, after: int, bodies: SealedBodies
) -> Iterator[Problem]:
    """Every fault by which queries may not find what is stored."""
    segments = SealedCheck(session, schema, SliceCheck())
    index = _Index(session, schema, retired_end(session, schema))
    for _ in index.noted(segments.slices(after, bodies)):
        pass
    yield from segments.problems()
    yield from index.problems()
    if not after:
        yield from _stream_problems(session, schema)
        if segments.is_all_read:
            yield from index.problems_beyond()


def _stream_problems(session: PostgresSession, schema: str) -> Iterator[Problem]:
    for position, stream in session.execute(in_schema(_UNNAMED, schema)).fetchall():
        yield Problem(f"position {position}", f"its stream {stream} has no name")
    for (name,) in session.execute(in_schema(_UNUSED, schema)).fetchall():
        yield Problem(f"stream {name!r}", "its row has no events")


class _Index:
    """Holds the marks against the slices, some at a time."""

    def __init__(self, session: PostgresSession, schema: str, retired: int) -> None:
        self._session = session
        self._retired = retired
        self._block = block_of(retired) if retired else 0
        """Where the marks are that retired slices share with those that are left."""
        self._missing_sql = in_schema(_MARKS, schema)
        self._count_sql = in_schema(_COUNT, schema)
        self._wanted: dict[tuple[int, int], int] = {}
        self._looked_up: set[tuple[int, int]] = set()
        """Of blocks that go on: their marks are those of slices to come as well."""
        self._found = 0
        self._problems: list[Problem] = []

    def noted(self, slices: Iterator[StoredSlice]) -> Iterator[StoredSlice]:
        """The slices, once what has to lead to them is noted."""
        for stored in slices:
            named = named_in(stored.body)
            types, tags = [one.type for one in named], [tag for one in named for tag in one.tags]
            block = block_of(stored.position)
            marks = [(term, block) for term in terms_of_block(stored.stream, types)]
            marks += [(term_of(TAG, tag), stored.position) for tag in tags]
            for mark in marks:
                if mark not in self._looked_up:
                    self._wanted.setdefault(mark, stored.position)
            if len(self._wanted) >= _AT_ONCE:
                self._look_up(stored.position)
            yield stored
        self._look_up(MAX_POSITION)

    def _look_up(self, position: int) -> None:
        terms, positions = [list(one) for one in zip(*self._wanted, strict=True)] or ([], [])
        rows = self._session.execute(self._missing_sql, (terms, positions)).fetchall()
        self._found += sum(position != self._block for _, position in rows)
        self._problems += [
            Problem(f"position {self._wanted[mark]}", "the index doesn't lead to all that is in it")
            for mark in self._wanted.keys() - set(rows)
        ]
        done = (*self._looked_up, *self._wanted)
        self._looked_up = {mark for mark in done if mark[1] > position}
        self._wanted.clear()

    def problems(self) -> Iterator[Problem]:
        """The marks that are missing, once all slices were noted."""
        yield from self._problems

    def problems_beyond(self) -> Iterator[Problem]:
        """How many marks there are beyond those of all slices."""
        bounds = self._retired, self._block
        ((count,),) = self._session.execute(self._count_sql, bounds).fetchall()
        if count > self._found:
            yield Problem("index", f"it has {count - self._found:,} marks that no events make")
