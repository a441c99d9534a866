"""What a log's tables say, held together: the slices, and what queries find them by."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final

from everwhen.backends.commit_checks import SliceCheck, version_problem
from everwhen.backends.postgres.pages import PostgresSession, slice_of
from everwhen.backends.postgres.statements import in_schema
from everwhen.backends.postgres.writer import marks_of
from everwhen.codec.slice_bodies import Entry
from everwhen.vocabulary.contract import Problem, StoredSlice
from everwhen.vocabulary.streams import MAX_POSITION

_SLICES: Final = """
SELECT position, coalesce(name, ''), version, count, recorded_at, commit_id, first_index, metadata,
    body
FROM log.slices LEFT JOIN log.streams ON streams.id = stream
WHERE position > %s ORDER BY position LIMIT %s
"""
_UNNAMED: Final = """
SELECT min(position), stream FROM log.slices LEFT JOIN log.streams ON streams.id = stream
WHERE name IS NULL GROUP BY stream
"""
_UNUSED: Final = """
SELECT name FROM log.streams WHERE NOT EXISTS (SELECT FROM log.slices WHERE stream = id)
"""
_MARKS: Final = "SELECT term, position FROM log.marks WHERE (term, position) IN ({})"
_COUNT: Final = "SELECT count(*) FROM log.marks WHERE position > %s"
_AT_ONCE: Final = 1_000


def problems(session: PostgresSession, schema: str) -> Iterator[Problem]:
    """Every fault found in the tables."""
    checking = SliceCheck()
    versions: dict[str, int] = {}
    for stored in _slices(session, schema, 0):
        yield from checking.problems(stored)
        before = versions.get(stored.stream, 0)
        if stored.version - stored.count != before:
            yield version_problem(stored.stream, stored.version, before)
        versions[stored.stream] = stored.version
    yield from hidden_problems(session, schema, 0)


def hidden_problems(session: PostgresSession, schema: str, after: int) -> Iterator[Problem]:
    """Every fault by which queries may not find what is stored."""
    if not after:
        for position, stream in session.execute(in_schema(_UNNAMED, schema)).fetchall():
            yield Problem(f"position {position}", f"its stream {stream} has no name")
        for (name,) in session.execute(in_schema(_UNUSED, schema)).fetchall():
            yield Problem(f"stream {name!r}", "its row has no events")
    found = 0
    batch: dict[tuple[int, int], int] = {}
    last_block: set[tuple[int, int]] = set()
    for stored in _slices(session, schema, after):
        for mark in _marks_of(stored):
            if mark not in last_block:
                batch.setdefault(mark, stored.position)
        if len(batch) >= _AT_ONCE:
            found += yield from _missing(session, schema, batch)
            last_block = {mark for mark in (*batch, *last_block) if mark[1] > stored.position}
            batch = {}
    found += yield from _missing(session, schema, batch)
    if not after:
        count = session.execute(in_schema(_COUNT, schema), (0,)).fetchone()
        more = (0 if count is None else int(count[0])) - found
        if more > 0:
            yield Problem("index", f"it has {more:,} marks that no events make")


def _missing(
    session: PostgresSession, schema: str, wanted: dict[tuple[int, int], int]
) -> Generator[Problem, None, int]:
    """Those marks that aren't there; returns how many are."""
    if not wanted:
        return 0
    terms, positions = zip(*wanted, strict=True)
    sql = _MARKS.format("SELECT * FROM unnest(%s::bigint[], %s::bigint[])")
    rows = session.execute(in_schema(sql, schema), (list(terms), list(positions))).fetchall()
    for mark in wanted.keys() - set(rows):
        yield Problem(f"position {wanted[mark]}", "the index doesn't lead to all that is in it")
    return len(rows)


def _marks_of(stored: StoredSlice) -> Iterator[tuple[int, int]]:
    checking = SliceCheck(is_dense=False)
    for _ in checking.problems(stored):
        pass
    entries: list[Entry] = checking.entries or []
    types = [entry.type for entry in entries]
    tags = [tag for entry in entries for tag in entry.tags]
    return marks_of(stored.stream, types, tags, stored.position)


def _slices(session: PostgresSession, schema: str, after: int) -> Iterator[StoredSlice]:
    while after < MAX_POSITION:
        rows = session.execute(in_schema(_SLICES, schema), (after, _AT_ONCE)).fetchall()
        for row in rows:
            yield slice_of(row)
        if len(rows) < _AT_ONCE:
            return
        after = rows[-1][0]
