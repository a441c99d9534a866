"""Sealed history, computed again: each segment's slices, its index, and where its streams stand.

One segment is in memory at a time. What is known of streams and terms from one segment to the next
is kept in a database of its own, on disk where it is large.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Final

import apsw
import msgspec

from everwhen.backends.commit_checks import SliceCheck, version_problem
from everwhen.backends.index_terms import BLOCK
from everwhen.backends.segment_packing import digest_of_rows
from everwhen.backends.sqlite.lookups import segments as stored_segments
from everwhen.backends.sqlite.pages import StreamNames, ends
from everwhen.backends.sqlite.query_plan import Row
from everwhen.backends.sqlite.sealing import listed_commits, postings_of
from everwhen.backends.sqlite.segments import Segments
from everwhen.backends.sqlite.statements import statements
from everwhen.system.limits import MAX_REMEMBERED
from everwhen.vocabulary.contract import Problem, Segment, StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError, StorageError

_SQL: Final = statements("checking")

_DAMAGE: Final = (apsw.CorruptError, CorruptStoreError)
"""Unlike an object storage that doesn't answer."""

_SCRATCH: Final = """
CREATE TABLE streams (stream INTEGER PRIMARY KEY, version INTEGER, position INTEGER, time INTEGER);
CREATE TABLE terms (term INTEGER PRIMARY KEY)
"""


class SegmentCheck:
    """Holds the segments of a file against what they are made of."""

    def __init__(self, connection: apsw.Connection, *, is_whole: bool = True) -> None:
        self._connection = connection
        self._is_whole = is_whole
        self._segments = Segments()
        self._names = StreamNames()
        self._scratch = apsw.Connection("")
        self._scratch.execute(_SCRATCH)
        self._terms: dict[tuple[int, str], int] = {}
        self._commits = 0
        self._unread: list[tuple[int, int]] = []
        """Between which positions there are slices that can't be read: each is one problem."""
        _, self.border, self._retired = ends(connection)
        known = connection.execute(_SQL["retired_streams"], (self._retired,)).fetchall()
        self._scratch.executemany("INSERT INTO streams VALUES (?, ?, ?, ?)", known)

    def problems(self, after: int = 0, slices: SliceCheck | None = None) -> Iterator[Problem]:
        """Every fault of the segments that end after the position.

        With ``slices``, each slice is checked as well, and how it follows on the one before it.
        """
        before = 0
        for segment in stored_segments(self._connection):
            if segment.last <= self._retired:
                if slices is not None:
                    slices.go_on_after(segment.last, segment.last_time)
            elif segment.last > after:
                yield from self._segment(segment, before, slices)
            before = segment.last
        if not after:
            yield from self._left_over()
            yield from self._streams()
            yield from self._counts()

    def close(self) -> None:
        """Let go of what is known."""
        self._scratch.close()

    def _segment(
        self, segment: Segment, before: int, slices: SliceCheck | None
    ) -> Iterator[Problem]:
        where = _where(segment)
        try:
            rows = self._segments.rows(self._connection, before, segment.last, reverse=False)
            found = list(rows)
            names = self._names.many(self._connection, {row[1] for row in found})
            first = found[0][0] - found[0][3] + 1  # which the segment may say wrong
            if len(self._terms) > MAX_REMEMBERED:
                self._terms.clear()
            postings, streams = postings_of(self._connection, found, first, names, self._terms)
        except (apsw.CorruptError, StorageError) as error:
            self._unread.append((before, segment.last))
            if slices is not None:
                slices.go_on_after(segment.last, segment.last_time)
            yield Problem(where, str(error), isinstance(error, _DAMAGE))
            return
        if slices is not None:
            for row in found:
                yield from slices.problems(StoredSlice(row[0], names[row[1]], *row[2:]))
            yield from self._versions(found, names)
        made = self._made(segment, before, found, names)
        if made != segment:
            yield Problem(where, f"it says {segment}, and has {made}")
        yield from self._times(segment, before, found)
        yield from self._index(segment, found, postings, names)
        self._scratch.executemany("INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?)", streams)

    def _index(
        self,
        segment: Segment,
        rows: list[Row],
        postings: list[tuple[int, int, bytes]],
        names: Mapping[int, str],
    ) -> Iterator[Problem]:
        """Whether a segment's slices are found by their terms, and its commits by their ids."""
        where = _where(segment)
        kept = self._connection.execute(_SQL["postings"], (segment.last,))
        stored = {term: rest for term, *rest in kept}
        terms = [(term,) for term, *_ in postings if term > 0]
        self._scratch.executemany("INSERT OR IGNORE INTO terms VALUES (?)", terms)
        for term, *rest in postings:
            if stored.pop(term, None) != rest:
                yield Problem(where, f"its index doesn't lead to {self._name(term, names)}")
        if stored:
            yield Problem(where, f"its index has {len(stored):,} entries that no events make")
        for prefix, position in listed_commits(rows):
            self._commits += 1
            if self._connection.execute(_SQL["sealed_commit"], (prefix, position)).get is None:
                yield Problem(f"position {position}", "its commit is not found by its id")

    def _left_over(self) -> Iterator[Problem]:
        """Rows before the border, which are deleted in time: writers look at their versions."""
        for row in self._connection.execute(_SQL["left_over"], (self.border,)):
            if self._is_unread(row[0]) or 0 < row[0] <= self._retired:
                continue
            try:
                found = self._segments.row_at(self._connection, row[0])
            except apsw.CorruptError as error:
                yield Problem(f"position {row[0]}", str(error))
                continue
            if found != row:
                yield Problem(f"position {row[0]}", "its row isn't what was sealed there")

    def _made(
        self, segment: Segment, before: int, rows: list[Row], names: Mapping[int, str]
    ) -> Segment:
        """The segment as its slices are."""
        size = self._connection.execute(_SQL["chunk_bytes"], (before, segment.last)).get
        first, last = rows[0], rows[-1]
        return msgspec.structs.replace(
            segment,
            last=last[0],
            first=first[0] - first[3] + 1,
            slices=len(rows),
            first_time=first[4],
            last_time=last[4],
            size=size if segment.object is None else segment.size,
            sha256=digest_of_rows(rows, names),
        )

    def _times(self, segment: Segment, before: int, rows: list[Row]) -> Iterator[Problem]:
        """Whether each chunk begins when it says: by that moments are looked up."""
        bounds = {"after": before, "last": segment.last}
        positions, start, start_of_group = [row[0] for row in rows], 0, 0
        for last, of_chunk, of_group in self._connection.execute(_SQL["piece_times"], bounds):
            if of_chunk not in {None, rows[start][4]}:
                yield Problem(f"chunk up to position {last}", "it begins at another time")
            if of_group not in {None, rows[start_of_group][4]}:
                yield Problem(f"row group up to position {last}", "it begins at another time")
            start = min(bisect_right(positions, last), len(rows) - 1)
            if of_group is not None:
                start_of_group = start

    def _versions(self, rows: list[Row], names: Mapping[int, str]) -> Iterator[Problem]:
        known: dict[int, int] = {}
        for _, stream, version, count, *_ in rows:
            before = known.get(stream)
            if before is None:
                before = self.version_before(stream, version - count)
            if version - count != before:
                yield version_problem(names[stream], version, before)
            known[stream] = version

    def _streams(self) -> Iterator[Problem]:
        """Whether each stream is known to stand where its newest sealed slice is."""
        for stream, *found in self._connection.execute(_SQL["sealed_streams"]):
            sql = "SELECT version, position, time FROM streams WHERE stream = ?"
            made = self._scratch.execute(sql, (stream,)).fetchone()
            if found[1] > self.border:  # of a segment that isn't finished, and true all the same
                bounds = stream, found[0]
                made = self._connection.execute(_SQL["slice_of_stream"], bounds).fetchone()
            if self._is_unread(found[1]):
                continue
            if made is None or [*made] != found:
                yield Problem(f"stream {stream}", f"its newest sealed slice is {made}, not {found}")
        for (stream,) in self._scratch.execute("SELECT stream FROM streams"):
            if self._connection.execute(_SQL["sealed_stream"], (stream,)).get is None:
                yield Problem(f"stream {stream}", "its newest sealed slice isn't known")

    def _counts(self) -> Iterator[Problem]:
        more = self._count(self._retired, self.border)
        more -= sum(self._count(*bounds) for bounds in self._unread)
        if more != self._commits:
            yield Problem("index", f"it has {more - self._commits:,} commits that aren't sealed")

    def _count(self, after: int, last: int) -> int:
        found: int = self._connection.execute(_SQL["count_of_commits"], (after, last)).get
        return found

    def _is_unread(self, position: int) -> bool:
        return any(before < position <= last for before, last in self._unread)

    def version_before(self, stream: int, begins: int) -> int:
        """The version that a stream's next slice should follow on.

        Where some of history is retired, or in other files, and the stream wasn't met after that,
        nobody knows; nor where some of it can't be read.
        """
        known = self._version_of(stream)
        is_open = not known and (self._retired > 0 or not self._is_whole)
        return begins if is_open or (self._unread and begins > known) else known

    def _version_of(self, stream: int) -> int:
        """A stream's version, by the segments that were gone through; 0 where it wasn't met."""
        sql = "SELECT version FROM streams WHERE stream = ?"
        found: int | None = self._scratch.execute(sql, (stream,)).get
        return found or 0

    def has_term(self, term: int) -> bool:
        """Whether a term occurs in a segment. Only once all of them were gone through."""
        found = self._scratch.execute("SELECT 1 FROM terms WHERE term = ?", (term,)).get
        # what was retired, or can't be read, may have it
        return found is not None or self._retired > 0 or bool(self._unread)

    def rows_of_block(self, block: int) -> Iterator[Row]:
        """The sealed slices of a block of positions."""
        low = max(self._retired, block - BLOCK)
        with contextlib.suppress(apsw.CorruptError, StorageError):  # reported with its segment
            if low < self.border:
                yield from self._segments.rows(self._connection, low, self.border, reverse=False)

    def is_partly_unknown(self, block: int) -> bool:
        """Whether slices of a block of positions were retired, or can't be read."""
        is_unread = any(block - BLOCK < last <= block for _, last in self._unread)
        return is_unread or max(0, block - BLOCK) < self._retired < block

    def _name(self, term: int, names: Mapping[int, str]) -> str:
        if term < 0:
            return f"stream {names[-term]!r}"
        with contextlib.suppress(apsw.Error):
            return repr(self._connection.execute(_SQL["term_name"], (term,)).get)
        return f"term {term}"


def _where(segment: Segment) -> str:
    return f"segment of positions {segment.first} to {segment.last}"
