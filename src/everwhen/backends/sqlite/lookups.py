"""What is looked up beside pages of events, each as one connection sees the file.

The end of the store, a commit, a moment, streams, checkpoints and snapshots.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import apsw

from everwhen.backends.archived_groups import MAX_URL_BYTES
from everwhen.backends.commit_checks import LONG_AGO
from everwhen.backends.commit_times import NATURAL_MICROS, made_at_by
from everwhen.backends.sqlite.pages import (
    ends,
    newest_slice,
    one_moment,
    retired_error,
    slice_with_name,
)
from everwhen.backends.sqlite.query_plan import MAX_INTEGER, Window, rows_in, searchable
from everwhen.backends.sqlite.segments import Segments, prefix_of
from everwhen.backends.sqlite.statements import statements
from everwhen.backends.sqlite.stored_rows import (
    checkpoint_of,
    snapshot_info_of,
    snapshot_of,
    stored_moment,
    stream_of,
)
from everwhen.backends.sqlite.value_sizes import MAX_STORED_NAME_BYTES, limited
from everwhen.codec.frames import SliceRow
from everwhen.system.sqlite_values import stored_bytes, stored_count, stored_text
from everwhen.vocabulary.contract import (
    MAX_KEPT_BYTES,
    ArchiveObject,
    Checkpoint,
    Head,
    Segment,
    Snapshot,
    SnapshotInfo,
    StoredSlice,
    StreamInfo,
)
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.streams import category_of

_SQL: Final = statements("reading")
_SEALED: Final = statements("sealed")
_RETIRED: Final = statements("retired")


def stored_commit(
    connection: apsw.Connection, commit_id: bytes, segments: Segments
) -> list[StoredSlice]:
    """The slices of a commit that is in the file; none where it isn't."""
    with one_moment(connection), limited(connection):
        newest, border, retired = ends(connection)
        start = connection.execute(_SQL["start_of_commit"], (commit_id,)).get
        if start is None:
            start = _sealed_start(connection, commit_id, border, retired, segments)
            if start is None:
                return []
        window = Window(start - 1, newest, border, segments, reverse=False)
        rows = rows_in(connection, window)
        whole = list(itertools.takewhile(lambda row: row[5] == commit_id, rows))
        return [slice_with_name(connection, row) for row in whole]


def _sealed_start(
    connection: apsw.Connection, commit_id: bytes, border: int, retired: int, segments: Segments
) -> int | None:
    """The position of the first slice of a commit that is sealed.

    Where the id says when it was made, that leads to it; the others are listed. Raises
    `RetiredError` where it is, or may be, one of those that were retired.
    """
    if not border:
        return None
    prefix = prefix_of(commit_id)
    for (position,) in connection.execute(_SEALED["commits"], (prefix, border)):
        if stored_count(position) <= retired:
            raise retired_error(connection, retired)
        row = segments.row_at(connection, stored_count(position))
        if (row[5], row[6]) == (commit_id, 0):
            return row[0]
    made_at = made_at_by(commit_id)
    if made_at is None or made_at - NATURAL_MICROS > _sealed_until(connection):
        return None
    if made_at - NATURAL_MICROS <= _retired_until(connection, retired):
        raise retired_error(connection, retired)
    low = segments.position_at(connection, made_at - NATURAL_MICROS - 1, (retired, border))
    for row in _sealed_rows(connection, low, border, segments):
        if row[4] > made_at + NATURAL_MICROS:
            return None
        if (row[5], row[6]) == (commit_id, 0):
            return row[0]
    return None


def _sealed_rows(
    connection: apsw.Connection, low: int, border: int, segments: Segments
) -> Iterator[SliceRow]:
    if low < border:
        yield from segments.rows(connection, low, border, reverse=False)


def _sealed_until(connection: apsw.Connection) -> int:
    """When the newest slice that is sealed was recorded."""
    newest = connection.execute(_SEALED["newest_segment"]).fetchone()
    return LONG_AGO if newest is None else stored_moment(newest[1])


def _retired_until(connection: apsw.Connection, retired: int) -> int:
    """When the newest slice that was retired had been recorded; long ago where none was."""
    if not retired:
        return LONG_AGO
    return stored_moment(connection.execute(_RETIRED["until"]).get)


def head(connection: apsw.Connection) -> Head:
    """The newest event's place."""
    found = newest_slice(connection)
    return Head(0, None) if found is None else Head(found[0], from_micros(found[1]))


def position_at(connection: apsw.Connection, recorded_at: int, segments: Segments) -> int:
    """The last position recorded at or before the moment, by bisection; 0 if there is none."""
    with one_moment(connection):
        high, border, retired = ends(connection)
        low = border
        while low < high:
            middle = (low + high) // 2 + 1
            position, count, moment = connection.execute(_SQL["slice_at"], (middle,)).get
            if moment <= recorded_at:
                low = position
            else:
                high = min(position - count, middle - 1)  # it ends, even where events are missing
        if low > border or not border:
            return int(low)
        if recorded_at < _retired_until(connection, retired):
            raise retired_error(connection, retired)
        return segments.position_at(connection, recorded_at, (retired, border))


def segments(connection: apsw.Connection) -> list[Segment]:
    """All segments, the oldest first."""
    found: list[Segment] = []
    for row in connection.execute(_SEALED["segments"]):
        digest, is_cold, url, name, size, retired_at = row[6:]
        place = None
        if url is not None:
            place = ArchiveObject(
                stored_text(url, MAX_URL_BYTES),
                stored_text(name, MAX_URL_BYTES),
                stored_count(size),
            )
        last, first, slices, first_time, last_time, bytes_ = map(stored_count, row[:6])
        found.append(
            Segment(
                last,
                first,
                slices,
                first_time,
                last_time,
                bytes_,
                stored_bytes(digest),
                bool(is_cold),
                place,
                None if retired_at is None else stored_moment(retired_at),
            )
        )
    return found


def stream(connection: apsw.Connection, name: str) -> StreamInfo | None:
    """Where a stream stands; None where it has no events."""
    with limited(connection, MAX_STORED_NAME_BYTES):
        bounds = (searchable(name),)
        row = connection.execute(_SQL["stream"], bounds).fetchone()
        if row is None:  # looked for second: what is sealed meanwhile is found there
            row = connection.execute(_SQL["sealed_stream"], bounds).fetchone()
    return None if row is None else stream_of(row)


def streams(
    connection: apsw.Connection, category: str | None, after: str, limit: int
) -> list[StreamInfo]:
    """Streams in the order of their names, after the name ``after``."""
    sql, bounds = _SQL["streams"], [searchable(after)]
    if category is not None:
        if category_of(category) != category:
            return []
        sql, category = _SQL["streams_of_category"], searchable(category)
        bounds += [category, f"{category}-", f"{category}."]
    with limited(connection, MAX_STORED_NAME_BYTES):
        return list(map(stream_of, connection.execute(sql, (*bounds, limit))))


def checkpoint(connection: apsw.Connection, name: str) -> Checkpoint | None:
    """The checkpoint of that name."""
    row = connection.execute(_SQL["checkpoint"], (searchable(name),)).get
    return None if row is None else checkpoint_of(row)


def checkpoints(connection: apsw.Connection, prefix: str | None = None) -> list[Checkpoint]:
    """All checkpoints by name, or those whose names begin so."""
    if prefix is None:
        rows = connection.execute(_SQL["checkpoints"])
    else:
        bounds = (len(prefix), searchable(prefix))
        rows = connection.execute(_SQL["checkpoints_of_prefix"], bounds)
    return list(map(checkpoint_of, rows))


def snapshots(
    connection: apsw.Connection, subject: str, up_to: int | None, limit: int
) -> list[Snapshot]:
    """A subject's snapshots, newest first, at or before the position ``up_to``."""
    last = MAX_INTEGER if up_to is None else min(up_to, MAX_INTEGER)
    bounds = (searchable(subject), last, MAX_KEPT_BYTES, limit)
    return list(map(snapshot_of, connection.execute(_SQL["snapshots"], bounds)))


def snapshots_after(
    connection: apsw.Connection, subject: str, position: int, limit: int
) -> list[SnapshotInfo]:
    """Snapshots by subject and position, from after these on; an empty list at the end."""
    bounds = (searchable(subject), position, limit)
    return list(map(snapshot_info_of, connection.execute(_SQL["snapshots_after"], bounds)))
