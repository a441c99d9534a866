"""What a log's tables say, held together: the slices, and what queries find them by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from everwhen.backends.commit_checks import slice_problems
from everwhen.backends.index_terms import named_in
from everwhen.backends.postgres.pages import PostgresSession
from everwhen.backends.postgres.statements import in_schema
from everwhen.backends.postgres.stored_rows import COLUMNS, slices_of
from everwhen.backends.postgres.writer import marks_of
from everwhen.vocabulary.contract import Problem, StoredSlice
from everwhen.vocabulary.streams import MAX_POSITION

_SLICES: Final = f"""
SELECT {COLUMNS}, coalesce(name, '') FROM (
    SELECT *, tableoid FROM log.slices WHERE position > %s ORDER BY position LIMIT %s
) AS taken LEFT JOIN log.streams ON streams.id = stream ORDER BY position
"""
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
_COUNT: Final = "SELECT count(*) FROM log.marks"
_AT_ONCE: Final = 1_000


def problems(session: PostgresSession, schema: str) -> Iterator[Problem]:
    """Every fault found in the tables: the slices are read once."""
    index = _Index(session, schema)
    yield from slice_problems(index.noted(_slices(session, schema, 0)))
    yield from index.problems()
    yield from _stream_problems(session, schema)
    yield from index.problems_beyond()


def hidden_problems(session: PostgresSession, schema: str, after: int) -> Iterator[Problem]:
    """Every fault by which queries may not find what is stored."""
    index = _Index(session, schema)
    for _ in index.noted(_slices(session, schema, after)):
        pass
    yield from index.problems()
    if not after:
        yield from _stream_problems(session, schema)
        yield from index.problems_beyond()


def _stream_problems(session: PostgresSession, schema: str) -> Iterator[Problem]:
    for position, stream in session.execute(in_schema(_UNNAMED, schema)).fetchall():
        yield Problem(f"position {position}", f"its stream {stream} has no name")
    for (name,) in session.execute(in_schema(_UNUSED, schema)).fetchall():
        yield Problem(f"stream {name!r}", "its row has no events")


class _Index:
    """Holds the marks against the slices, some at a time."""

    def __init__(self, session: PostgresSession, schema: str) -> None:
        self._session = session
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
            for mark in marks_of(stored.stream, types, tags, stored.position):
                if mark not in self._looked_up:
                    self._wanted.setdefault(mark, stored.position)
            if len(self._wanted) >= _AT_ONCE:
                self._look_up(stored.position)
            yield stored
        self._look_up(MAX_POSITION)

    def _look_up(self, position: int) -> None:
        terms, positions = [list(one) for one in zip(*self._wanted, strict=True)] or ([], [])
        rows = self._session.execute(self._missing_sql, (terms, positions)).fetchall()
        self._found += len(rows)
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
        ((count,),) = self._session.execute(self._count_sql).fetchall()
        if count > self._found:
            yield Problem("index", f"it has {count - self._found:,} marks that no events make")


def _slices(session: PostgresSession, schema: str, after: int) -> Iterator[StoredSlice]:
    while after < MAX_POSITION:
        rows = session.execute(in_schema(_SLICES, schema), (after, _AT_ONCE)).fetchall()
        yield from slices_of([row[:-1] for row in rows], [row[-1] for row in rows])
        if len(rows) < _AT_ONCE:
            return
        after = rows[-1][0]
