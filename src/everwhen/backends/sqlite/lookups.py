"""What is looked up beside pages of events, each as one connection sees the file.

The end of the store, a commit, a moment, streams, checkpoints and snapshots.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import Final

import apsw

from everwhen.backends.sqlite.pages import slice_with_name
from everwhen.backends.sqlite.query_plan import MAX_INTEGER, searchable
from everwhen.backends.sqlite.statements import statements
from everwhen.backends.sqlite.stored_rows import (
    checkpoint_of,
    snapshot_info_of,
    snapshot_of,
    stream_of,
)
from everwhen.backends.sqlite.value_sizes import MAX_STORED_NAME_BYTES, limited
from everwhen.system.sqlite_values import stored_int
from everwhen.vocabulary.contract import (
    MAX_KEPT_BYTES,
    Checkpoint,
    Head,
    Snapshot,
    SnapshotInfo,
    StoredSlice,
    StreamInfo,
)
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.streams import category_of

_SQL: Final = statements("reading")


def stored_commit(connection: apsw.Connection, commit_id: bytes) -> list[StoredSlice]:
    """The slices of a commit that is in the file; none where it isn't."""
    start = connection.execute(_SQL["start_of_commit"], (commit_id,)).get
    if start is None:
        return []
    with (
        limited(connection),
        contextlib.closing(connection.execute(_SQL["slices_from"], (start,))) as rows,
    ):
        whole = itertools.takewhile(lambda row: row[5] == commit_id, rows)
        return [slice_with_name(connection, row) for row in whole]


def head(connection: apsw.Connection) -> Head:
    """The newest event's place."""
    found = connection.execute(_SQL["newest_slice"]).get
    if found is None:
        return Head(0, None)
    return Head(stored_int(found[0]), from_micros(stored_int(found[1])))


def position_at(connection: apsw.Connection, recorded_at: int) -> int:
    """The last position recorded at or before the moment, by bisection; 0 if there is none."""
    low, high = 0, connection.execute(_SQL["newest_position"]).get or 0
    while low < high:
        position, count, moment = connection.execute(_SQL["slice_at"], ((low + high) // 2 + 1,)).get
        if moment <= recorded_at:
            low = position
        else:
            high = position - count
    return int(low)


def stream(connection: apsw.Connection, name: str) -> StreamInfo | None:
    """Where a stream stands; None where it has no events."""
    with limited(connection, MAX_STORED_NAME_BYTES):
        row = connection.execute(_SQL["stream"], (searchable(name),)).fetchone()
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
