"""The rows of commits that one transaction writes: numbered, lined up, and inserted together.

What is known of the file (its end, the streams' versions, the ids of terms) is remembered from one
transaction to the next, for as long as nobody else writes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import apsw

from everwhen.backends.commit_checks import LONG_AGO
from everwhen.backends.index_terms import CATEGORY, TAG, TYPE, block_of
from everwhen.backends.sqlite.pages import newest_slice
from everwhen.backends.sqlite.query_plan import Row
from everwhen.backends.sqlite.statements import statements
from everwhen.system.sqlite_values import stored_count
from everwhen.vocabulary.contract import EncodedCommit, EncodedSlice, StoredSlice
from everwhen.vocabulary.streams import category_of

_READING: Final = statements("reading")
_WRITING: Final = statements("writing")

_MAX_REMEMBERED: Final = 100_000
"""How many streams, terms and marks are remembered each: some 25 MB."""

_ROWS_PER_STATEMENT: Final = (64, 8, 1)
"""How many rows one statement inserts. SQLite binds up to 32,766 values, and gains little beyond a
few hundred; what is left over goes by fewer at once."""

_Contents: TypeAlias = tuple[str, tuple[str, ...]]
"""The category and types of a slice, by which blocks are marked."""


class Stream:
    """A stream that is written to, as far as is lined up."""

    __slots__ = ("category", "id", "version")

    def __init__(self, id_: int, name: str, version: int) -> None:
        self.id = id_
        self.category = category_of(name)
        self.version = version


class Staged:
    """Rows lined up by one transaction, inserted together at its end."""

    __slots__ = ("commits", "marks", "names", "slices", "streams", "terms")

    def __init__(self) -> None:
        self.commits: dict[bytes, tuple[int, int]] = {}
        self.slices: list[Row] = []
        self.names: list[str] = []
        self.streams: list[tuple[int, str]] = []
        self.terms: list[tuple[int, int, str]] = []
        self.marks: list[tuple[int, int]] = []

    def sizes(self) -> tuple[int, ...]:
        """How much is lined up; see ``cut``."""
        return tuple(map(len, self._lists()))

    def cut(self, sizes: tuple[int, ...]) -> tuple[int, int]:
        """Drop what a commit added; how many streams and terms were new with it."""
        new = len(self.streams), len(self.terms)
        rows: list[Any]
        for rows, size in zip(self._lists(), sizes, strict=True):
            del rows[size:]
        return new[0] - len(self.streams), new[1] - len(self.terms)

    def _lists(self) -> tuple[list[Any], ...]:
        return self.slices, self.names, self.streams, self.terms, self.marks

    def slice(self, index: int) -> StoredSlice:
        """A lined-up slice as it will be stored."""
        row = self.slices[index]
        return StoredSlice(row[0], self.names[index], *row[2:])

    def commit(self, commit_id: bytes) -> list[StoredSlice]:
        """The slices of a commit that is lined up; none where it isn't."""
        span = self.commits.get(commit_id)
        return [] if span is None else [self.slice(index) for index in range(*span)]

    def insert(self, connection: apsw.Connection) -> None:
        """Write everything that was lined up."""
        _insert(connection, _INTO_STREAMS, self.streams)
        _insert(connection, _INTO_TERMS, self.terms)
        _insert(connection, _INTO_SLICES, self.slices)
        _insert(connection, _INTO_MARKS, self.marks)


def _inserts(into: str, columns: int) -> dict[int, str]:
    """The statements that insert rows, by how many rows they take."""
    row = f"({', '.join('?' * columns)})"
    return {rows: f"{into} VALUES {', '.join([row] * rows)}" for rows in _ROWS_PER_STATEMENT}


_INTO_STREAMS: Final = _inserts("INSERT INTO streams", 2)
_INTO_TERMS: Final = _inserts("INSERT INTO terms", 3)
_INTO_SLICES: Final = _inserts("INSERT INTO slices", 9)
_INTO_MARKS: Final = _inserts("INSERT OR IGNORE INTO marks", 2)


def _insert(
    connection: apsw.Connection, sql_by_rows: dict[int, str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert the rows, many with one statement.

    Each step of a statement gives up the interpreter's lock, and takes it back in competition with
    the threads whose commits these are.
    """
    start, left = 0, len(rows)
    for size, sql in sql_by_rows.items():
        while left >= size:
            connection.execute(
                sql, tuple(itertools.chain.from_iterable(rows[start : start + size]))
            )
            start += size
            left -= size


class FileEnd:
    """Where the file ends: the next rows' numbers, and what is known of streams and terms.

    ``version_before`` is the version at which a stream begins that isn't in the file yet.
    """

    def __init__(self, connection: apsw.Connection, version_before: Callable[[str], int]) -> None:
        self._connection = connection
        self._version_before = version_before
        self._forget()

    def _forget(self) -> None:
        self.position = 0
        self.recorded_at = LONG_AGO
        self._last_stream = self._last_term = 0
        self._streams: dict[str, Stream] = {}
        self._terms: dict[tuple[int, str], int] = {}
        self._marked: dict[_Contents, int] = {}

    def trim(self) -> None:
        """Forget what takes too much memory."""
        for known in (self._streams, self._terms, self._marked):
            if len(known) > _MAX_REMEMBERED:
                known.clear()

    def look_again(self) -> None:
        """Take in what others have written."""
        self._forget()
        get = self._connection.execute
        newest = newest_slice(self._connection)
        if newest is not None:
            self.position, self.recorded_at = newest
        self._last_stream = stored_count(get(_WRITING["newest_stream_id"]).get or 0)
        self._last_term = stored_count(get(_WRITING["newest_term_id"]).get or 0)

    def version(self, name: str) -> int:
        """The version of a stream, with what is lined up; 0 where it has no events."""
        stream = self._streams.get(name) or self._stored_stream(name)
        return self._version_before(name) if stream is None else stream.version

    def line_up(self, part: EncodedSlice, commit: EncodedCommit, index: int, staged: Staged) -> int:
        """Number the slice's events and add its rows; the stream's new version."""
        name, count = part.stream, part.count
        stream = (
            self._streams.get(name) or self._stored_stream(name) or self._new_stream(name, staged)
        )
        self.position = position = self.position + count
        stream.version = version = stream.version + count
        staged.slices.append(
            (
                position,
                stream.id,
                version,
                count,
                self.recorded_at,
                commit.id,
                index,
                commit.metadata,
                part.body,
            )
        )
        staged.names.append(name)
        block = block_of(position)
        contents = (stream.category, part.types)
        if self._marked.get(contents) != block:
            self._marked[contents] = block
            self._mark_block(contents, block, staged)
        for tag in part.tags:
            staged.marks.append((self._term(TAG, tag, staged), position))
        return version

    def _mark_block(self, contents: _Contents, block: int, staged: Staged) -> None:
        """Note in the index that a category and types occur in the block."""
        category, types = contents
        staged.marks.append((self._term(CATEGORY, category, staged), block))
        staged.marks.extend((self._term(TYPE, name, staged), block) for name in types)

    def _term(self, kind: int, name: str, staged: Staged) -> int:
        key = (kind, name)
        term = self._terms.get(key)
        if term is None:
            term = self._connection.execute(_READING["term_id"], key).get
            if term is None:
                self._last_term = term = self._last_term + 1
                staged.terms.append((term, kind, name))
            self._terms[key] = term
        return term

    def _stored_stream(self, name: str) -> Stream | None:
        row = self._connection.execute(_WRITING["stream_to_write"], (name,)).get
        if row is None:
            return None
        stream = self._streams[name] = Stream(row[0], name, stored_count(row[1]))
        return stream

    def _new_stream(self, name: str, staged: Staged) -> Stream:
        self._last_stream += 1
        staged.streams.append((self._last_stream, name))
        before = self._version_before(name)
        stream = self._streams[name] = Stream(self._last_stream, name, before)
        return stream

    def take_back(self, staged: Staged, to: Mark) -> None:
        """Leave nothing of a commit that failed while it was lined up."""
        self.position, self.recorded_at, sizes = to
        streams, terms = staged.cut(sizes)
        self._last_stream -= streams
        self._last_term -= terms
        self._streams.clear()
        self._terms.clear()
        self._marked.clear()
        self._recall(staged)

    def mark(self, staged: Staged) -> Mark:
        """Where a commit begins that may have to be taken back."""
        return self.position, self.recorded_at, staged.sizes()

    def _recall(self, staged: Staged) -> None:
        """Remember what is lined up, and not in the file yet."""
        for id_, name in staged.streams:
            self._streams[name] = Stream(id_, name, 0)
        for term, kind, name in staged.terms:
            self._terms[kind, name] = term
        for name, row in zip(staged.names, staged.slices, strict=True):
            self._streams[name] = Stream(row[1], name, row[2])


Mark: TypeAlias = tuple[int, int, tuple[int, ...]]
"""The position and time of the file's end, and how much is lined up."""
