"""The structural check: what the tables must say together, row by row.

Everything is read once, in position order, and memory stays flat.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import apsw
import msgspec

from everwhen.backends.sqlite_file import oversized, wrong_schema
from everwhen.backends.sqlite_plan import CATEGORY, TAG, TYPE, block_of
from everwhen.codec import decode_entries
from everwhen.contract import MAX_STORED_BYTES, Problem, category_of
from everwhen.judging import LONG_AGO

_SLICES: Final = (
    "SELECT slices.position, streams.name, slices.version, slices.count, slices.recorded_at,"
    " slices.commit_id, slices.first_index, slices.body"
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
        yield Problem(
            f"stream {name!r} version {version}", f"doesn't follow on version {before} before it"
        )


def _walk(connection: apsw.Connection) -> Iterator[Problem]:
    position = expected_index = 0
    recorded_at = LONG_AGO
    commit = b""
    for at, stream, _version, count, moment, commit_id, first_index, body in connection.execute(
        _SLICES
    ):
        where = f"position {at}"
        if at - count != position:
            yield Problem(where, f"a gap: its events begin behind {at - count}, not {position}")
        if moment < recorded_at:
            yield Problem(where, "recorded_at is earlier than that of the position before")
        wanted = expected_index if commit_id == commit else 0
        if first_index != wanted:
            yield Problem(where, f"first_index is {first_index} and should be {wanted}")
        if stream is None:
            yield Problem(where, "its stream has no name")
        yield from _body_problems(connection, at, stream or "", count, body)
        position, recorded_at, commit = at, moment, commit_id
        expected_index = first_index + count


def _body_problems(
    connection: apsw.Connection, position: int, stream: str, count: int, body: bytes
) -> Iterator[Problem]:
    where = f"position {position}"
    try:
        entries = decode_entries(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        yield Problem(where, f"its body can't be read: {error}")
        return
    if len(entries) != count:
        yield Problem(where, f"its body holds {len(entries)} events instead of {count}")
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
            yield Problem(where, f"the index has no mark for {name!r}")
