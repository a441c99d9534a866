"""What is looked up beside pages of events: commits, moments, streams, checkpoints, snapshots."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from everwhen.backends.commit_times import NATURAL_MICROS, made_at_by
from everwhen.backends.postgres.page_statements import findable
from everwhen.backends.postgres.sealed_bodies import (
    SealedBodies,
    again_where_moved,
    retired_end,
    retired_error,
)
from everwhen.backends.postgres.statements import PostgresSession, in_schema, statements
from everwhen.backends.postgres.stored_rows import COLUMNS, slices_of
from everwhen.vocabulary.contract import (
    ArchiveObject,
    Checkpoint,
    Head,
    Segment,
    Snapshot,
    SnapshotInfo,
    StoredSlice,
    StreamInfo,
    TableSize,
)
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.streams import MAX_POSITION, category_of

_SLICES: Final = 64
"""Of a commit, at once."""
_COMMIT: Final = f"""
SELECT {COLUMNS}, name FROM (SELECT * FROM log.slices
    WHERE position >= (SELECT position FROM log.slices WHERE commit_id = %s AND first_index = 0)
    ORDER BY position LIMIT %s
) AS taken JOIN log.streams ON streams.id = stream ORDER BY position
"""


def head(session: PostgresSession, schema: str) -> Head:
    """The newest event's place."""
    found = session.execute(statements("reading", schema)["head"]).fetchone()
    return Head(0, None) if found is None else Head(found[0], from_micros(found[1]))


def end(session: PostgresSession, schema: str) -> tuple[int, bool]:
    """The newest event's position, and whether the server is a standby, which may get more."""
    sql = statements("reading", schema)["end"]
    ((position, is_standby),) = session.execute(sql).fetchall()
    return position, is_standby


@again_where_moved
def stored_commit(
    session: PostgresSession, schema: str, commit_id: bytes, bodies: SealedBodies
) -> list[StoredSlice]:
    """The slices of a commit; none where it was never written.

    Raises `RetiredError` where it is, or may be, one of those that were retired.
    """
    most = _SLICES
    while True:
        bounds = UUID(bytes=commit_id), most
        rows = session.execute(in_schema(_COMMIT, schema), bounds).fetchall()
        slices = slices_of([row[:-1] for row in rows], [row[-1] for row in rows])
        found = [*itertools.takewhile(lambda one: one.commit_id == commit_id, slices)]
        if len(found) < most:
            break
        most *= 4
    retired = retired_end(session, schema)
    if retired and _is_retired(session, schema, commit_id, found, retired):
        raise retired_error(session, schema)
    return bodies.with_bodies(session, schema, found)


def _is_retired(
    session: PostgresSession,
    schema: str,
    commit_id: bytes,
    found: Sequence[StoredSlice],
    retired: int,
) -> bool:
    """Whether a commit was retired: of those, not all rows are left."""
    if found:
        return found[0].position <= retired
    sql = statements("tiers", schema)
    if session.execute(sql["retired_commit"], (UUID(bytes=commit_id),)).fetchone() is not None:
        return True
    made_at = made_at_by(commit_id)
    if made_at is None:
        return False
    ((until,),) = session.execute(sql["retired_until"]).fetchall()
    return made_at - NATURAL_MICROS <= int(until)


def position_at(session: PostgresSession, schema: str, recorded_at: int) -> int:
    """The last position recorded at or before the moment; 0 if there is none."""
    sql = statements("reading", schema)["position_at"]
    ((position, retired, until),) = session.execute(sql, {"moment": recorded_at}).fetchall()
    if retired and recorded_at < until:
        raise retired_error(session, schema)
    return max(int(position), int(retired))


def segments(session: PostgresSession, schema: str) -> list[Segment]:
    """All segments, the oldest first."""
    rows = session.execute(statements("tiers", schema)["segments"]).fetchall()
    return [_segment_of(row) for row in rows]


def _segment_of(row: Sequence[Any]) -> Segment:
    url, name, size, retired_at = row[8:]
    place = None if url is None else ArchiveObject(url, name, size)
    last, first, slices, first_time, last_time, size, digest, is_cold = row[:8]
    return Segment(
        last, first, slices, first_time, last_time, size, digest, is_cold, place, retired_at
    )


def stream(session: PostgresSession, schema: str, name: str) -> StreamInfo | None:
    """Where a stream stands; None where it has no events."""
    sql = statements("reading", schema)["stream"]
    found = session.execute(sql, (findable(name),)).fetchone()
    return None if found is None else _stream_of(found)


def streams(
    session: PostgresSession, schema: str, category: str | None, after: str, limit: int
) -> list[StreamInfo]:
    """Streams in the order of their names, after the name ``after``."""
    sql, bounds = statements("reading", schema), [_bound(after)]
    name = "streams"
    if category is not None:
        if category_of(category) != category:
            return []
        name, category = "streams_of_category", findable(category)
        bounds += [category, f"{category}-", f"{category}."]
    rows = session.execute(sql[name], (*bounds, limit)).fetchall()
    return [_stream_of(row) for row in rows]


def _bound(name: str) -> str:
    """What sorts as a name does among those that can be stored."""
    return re.split("[\x00\ud800-\udfff]", name, maxsplit=1)[0]


def _stream_of(row: Sequence[Any]) -> StreamInfo:
    name, version, position, recorded_at = row
    return StreamInfo(name, version, position, from_micros(recorded_at))


def checkpoint(session: PostgresSession, schema: str, name: str) -> Checkpoint | None:
    """The checkpoint of that name."""
    sql = statements("reading", schema)["checkpoint"]
    found = session.execute(sql, (findable(name),)).fetchone()
    return None if found is None else Checkpoint(*found)


def checkpoints(session: PostgresSession, schema: str, prefix: str = "") -> list[Checkpoint]:
    """All checkpoints by name, or those whose names begin so."""
    sql = statements("reading", schema)["checkpoints"]
    prefix = prefix and findable(prefix)
    return [Checkpoint(*row) for row in session.execute(sql, (prefix,)).fetchall()]


def snapshots(
    session: PostgresSession, schema: str, subject: str, up_to: int | None, limit: int
) -> list[Snapshot]:
    """A subject's snapshots, newest first, at or before the position ``up_to``."""
    bounds = findable(subject), MAX_POSITION if up_to is None else up_to, limit
    rows = session.execute(statements("reading", schema)["snapshots"], bounds).fetchall()
    return [Snapshot(*row) for row in rows]


def snapshots_after(
    session: PostgresSession, schema: str, subject: str, position: int, limit: int
) -> list[SnapshotInfo]:
    """All snapshots by subject and position, after these; an empty list at the end."""
    bounds = findable(subject), position, limit
    rows = session.execute(statements("reading", schema)["snapshots_after"], bounds).fetchall()
    return [SnapshotInfo(*row) for row in rows]


def table_sizes(session: PostgresSession, schema: str) -> list[TableSize]:
    """How large the tables of the log's schema are, those of read models included."""
    rows = session.execute(statements("reading", schema)["table_sizes"], (schema,)).fetchall()
    return [TableSize(*row) for row in rows]
