"""The structural check: what the tables must say together, row by row.

Everything is read once, in position order, and memory stays flat.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import apsw

from everwhen.backends.sqlite_file import oversized, wrong_schema
from everwhen.backends.sqlite_plan import CATEGORY, TAG, TYPE, block_of
from everwhen.codec import Entry
from everwhen.contract import MAX_STORED_BYTES, Problem, StoredSlice, category_of
from everwhen.judging import SliceCheck, version_problem

_SLICES: Final = (
    "SELECT slices.position, streams.name, slices.version, slices.count, slices.recorded_at,"
    " slices.commit_id, slices.first_index, slices.metadata, slices.body"
    " FROM slices LEFT JOIN streams ON streams.id = slices.stream ORDER BY slices.position"
)
_STREAM_GAPS: Final = (
    "SELECT name, version, before FROM (SELECT stream, version, version - count AS start,"
    " lag(version, 1, 0) OVER (PARTITION BY stream ORDER BY version) AS before FROM slices)"
    " JOIN streams ON streams.id = stream WHERE start <> before"
)


def structural_problems(connection: apsw.Connection) -> Iterator[Problem]:
    """Every fault, SQLite's own findings first."""
    damaged = False
    for (finding,) in connection.execute("PRAGMA integrity_check"):
        if finding != "ok":
            damaged = True
            yield Problem("file", finding)
    if damaged:
        return
    connection.execute("BEGIN")
    fatal = [
        Problem(f"schema, {wrong.type} {wrong.name!r}", wrong.what)
        for wrong in wrong_schema(connection)
    ] or [
        Problem(f"position {at}", f"{size:,} bytes; no store writes more than {MAX_STORED_BYTES:,}")
        for at, size in oversized(connection)
    ]
    yield from fatal
    if fatal:
        return
    yield from _walk(connection)
    for name, version, before in connection.execute(_STREAM_GAPS):
        yield version_problem(name, version, before)


def _walk(connection: apsw.Connection) -> Iterator[Problem]:
    checking = SliceCheck()
    for at, stream, *rest in connection.execute(_SLICES):
        version, count, moment, commit_id, first_index, metadata, body = rest
        kinds = {*map(type, (version, count, moment, first_index))}, type(stream or "")
        blobs = {type(commit_id), type(body), type(b"" if metadata is None else metadata)}
        if (*kinds, blobs) != ({int}, str, {bytes}):
            yield Problem(f"position {at}", "something of another kind stands in its row")
            continue
        name = stream or ""
        yield from checking.problems(StoredSlice(at, name, *rest))
        if stream is None:
            yield Problem(f"position {at}", "its stream has no name")
        if checking.entries is not None:
            yield from _index_problems(connection, at, name, checking.entries)


def _index_problems(
    connection: apsw.Connection, position: int, stream: str, entries: list[Entry]
) -> Iterator[Problem]:
    block = block_of(position)
    wanted = {(CATEGORY, category_of(stream), block)}
    wanted.update((TYPE, entry.type, block) for entry in entries)
    wanted.update((TAG, tag, position) for entry in entries for tag in entry.tags)
    for kind, name, mark in wanted:
        found = connection.execute(
            "SELECT 1 FROM marks JOIN terms ON terms.id = term"
            " WHERE kind = ? AND name = ? AND position = ?",
            (kind, name, mark),
        ).get
        if found is None:
            yield Problem(f"position {position}", f"the index has no mark for {name!r}")
