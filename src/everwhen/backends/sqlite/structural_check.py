"""The structural check: what the tables must say together, row by row.

Everything is read once, in position order, and memory stays flat.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice
from typing import Final

import apsw

from everwhen.backends.commit_checks import SliceCheck, version_problem
from everwhen.backends.sqlite.index_check import derived_problems, name_of
from everwhen.backends.sqlite.schema import wrong_schema
from everwhen.backends.sqlite.segment_check import SegmentCheck
from everwhen.backends.sqlite.statements import statements
from everwhen.backends.sqlite.value_sizes import oversized
from everwhen.vocabulary.contract import Problem, StoredSlice

_SQL: Final = statements("checking")

_MAX_NAMED: Final = 1_000
"""How many values that are too large are listed: more would be of no use."""


def structural_problems(connection: apsw.Connection, *, is_whole: bool = True) -> Iterator[Problem]:
    """Every fault, SQLite's own findings first.

    In a file that isn't ``is_whole`` but one of several, positions may have holes, and streams
    begin at any version.
    """
    fatal = list(file_problems(connection))
    yield from fatal
    if fatal:
        return
    checking = SliceCheck(is_dense=is_whole)
    with contextlib.closing(SegmentCheck(connection, is_whole=is_whole)) as sealed:
        yield from sealed.problems(slices=checking)
        yield from _walk(connection, checking, sealed.border)
        gaps = connection.execute(_SQL["stream_gaps"], (sealed.border,))
        for stream, name, version, start, before in gaps:
            due = sealed.version_before(stream, start) if before is None else before
            if start != due:
                yield version_problem(str(name_of(name)), version, due)
        yield from derived_problems(connection, sealed)


def hiding_problems(connection: apsw.Connection, after: int) -> Iterator[Problem]:
    """Every fault by which queries may not find what is stored after the position."""
    fatal = list(_known_problems(connection) if after else file_problems(connection))
    yield from fatal
    if fatal:
        return
    with contextlib.closing(SegmentCheck(connection)) as sealed:
        yield from sealed.problems(after)
        yield from derived_problems(connection, sealed, after)


def file_problems(connection: apsw.Connection) -> Iterator[Problem]:
    """Faults of the file and its schema, with which nothing else can be judged.

    A transaction is begun, for whatever is read next.
    """
    large = list(_large(connection))
    yield from large
    if large:
        return
    damaged = False
    for (finding,) in connection.execute("PRAGMA integrity_check"):
        if finding != "ok":
            damaged = True
            yield Problem("file", finding)
    try:
        yield from _schema_problems(connection)
    except (apsw.CorruptError, apsw.SQLError):
        if not damaged:
            raise


def _schema_problems(connection: apsw.Connection) -> Iterator[Problem]:
    connection.execute("BEGIN")
    yield from [
        Problem(f"schema, {wrong.type} {wrong.name!r}", wrong.what)
        for wrong in wrong_schema(connection)
    ]


def _known_problems(connection: apsw.Connection) -> Iterator[Problem]:
    """The same, but for what SQLite finds."""
    large = list(_large(connection))
    yield from large or _schema_problems(connection)


def _large(connection: apsw.Connection) -> Iterator[Problem]:
    """What is too large to be looked at; nothing where the file is too damaged to tell."""
    try:
        if any(wrong.is_fatal for wrong in wrong_schema(connection)):
            return
        found = list(islice(oversized(connection), _MAX_NAMED))
    except (apsw.CorruptError, apsw.SQLError):
        return
    for where, size, limit in found:
        yield Problem(where, f"{size:,} bytes; no store writes more than {limit:,} there")


def _walk(connection: apsw.Connection, checking: SliceCheck, border: int) -> Iterator[Problem]:
    for at, stream, *rest in connection.execute(_SQL["slices"], (border,)):
        version, count, moment, commit_id, first_index, metadata, body = rest
        kinds = {*map(type, (version, count, moment, first_index))}
        blobs = {type(commit_id), type(body), type(b"" if metadata is None else metadata)}
        if (kinds, blobs) != ({int}, {bytes}):
            yield Problem(f"position {at}", "something of another kind stands in its row")
            continue
        yield from checking.problems(StoredSlice(at, name_of(stream) or "", *rest))
        if stream is None:
            yield Problem(f"position {at}", "its stream has no name")
