"""Segments, held against the slices that they are of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from psycopg.errors import DataCorrupted

from everwhen.backends.commit_checks import SliceCheck
from everwhen.backends.postgres.lookups import segments
from everwhen.backends.postgres.sealed_bodies import SealedBodies
from everwhen.backends.postgres.slice_ranges import slices_between
from everwhen.backends.postgres.statements import PostgresSession, in_schema
from everwhen.codec.blocks import fields_of
from everwhen.codec.slice_digest import SliceDigest
from everwhen.vocabulary.contract import Problem, Segment, StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError, StorageError
from everwhen.vocabulary.streams import MAX_POSITION

_BYTES = """
SELECT coalesce(sum(octet_length(data)), 0) FROM log.chunks WHERE last > %s AND last <= %s
"""


class SealedCheck:
    """Reads the slices of a log after what was retired, and makes each segment of them again."""

    def __init__(self, session: PostgresSession, schema: str, checking: SliceCheck) -> None:
        self.is_all_read = True
        self._session = session
        self._schema = schema
        self._checking = checking
        self._sql = in_schema(_BYTES, schema)
        self._segments = segments(session, schema)
        self._before = 0
        self._problems: list[Problem] = []

    def slices(self, after: int, bodies: SealedBodies) -> Iterator[StoredSlice]:
        """The slices after a position: those that can be read."""
        for segment in self._segments:
            if segment.retired_at is not None:
                self._checking.go_on_after(segment.last, segment.last_time)
            elif segment.last > after:
                yield from self._of_segment(segment, bodies)
            self._before = segment.last
        after = max(after, self._before)
        with self._unread(f"after position {after}"):
            yield from self._read(after, MAX_POSITION, bodies)

    def _of_segment(self, segment: Segment, bodies: SealedBodies) -> Iterator[StoredSlice]:
        made, digest, is_read = None, SliceDigest(), False
        with self._unread(_where(segment)):
            for stored in self._read(self._before, segment.last, bodies):
                made = _with(segment, made, stored)
                digest.update(fields_of([stored]))
                yield stored
            is_read = True
        if not is_read:
            self._checking.go_on_after(segment.last, segment.last_time)
            return
        if made is not None:
            made = msgspec.structs.replace(made, sha256=digest.digest(), size=self._size(segment))
        if made != segment:
            self._problems.append(Problem(_where(segment), f"it says {segment}, and has {made}"))

    @contextmanager
    def _unread(self, where: str) -> Iterator[None]:
        """Notes what can't be read, as long as the session goes on."""
        try:
            yield
        except (DataCorrupted, StorageError) as error:
            if self._session.info.transaction_status.name != "INTRANS":
                raise
            self.is_all_read = False
            is_damage = isinstance(error, DataCorrupted | CorruptStoreError)
            self._problems.append(Problem(where, str(error), is_damage))

    def _read(self, after: int, last: int, bodies: SealedBodies) -> Iterator[StoredSlice]:
        return slices_between(self._session, self._schema, after, last, bodies)

    def _size(self, segment: Segment) -> int:
        if segment.object is not None:
            return segment.size
        ((size,),) = self._session.execute(self._sql, (self._before, segment.last)).fetchall()
        return int(size)

    def problems(self) -> Iterator[Problem]:
        """Every segment that isn't what it says, once all slices were read."""
        yield from self._problems


def _where(segment: Segment) -> str:
    return f"segment of positions {segment.first} to {segment.last}"


def _with(segment: Segment, made: Segment | None, stored: StoredSlice) -> Segment:
    """What was made of a segment so far, with one slice more."""
    return msgspec.structs.replace(
        segment,
        first=stored.position - stored.count + 1 if made is None else made.first,
        first_time=stored.recorded_at if made is None else made.first_time,
        slices=1 if made is None else made.slices + 1,
        last=stored.position,
        last_time=stored.recorded_at,
    )
