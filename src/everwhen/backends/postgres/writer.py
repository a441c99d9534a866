"""Writing commits: the checks of each, and one transaction for all that came together.

The log's lock is held from the first look to the end of the transaction, so that positions have no
holes, times never step back, and whoever reads a position sees all before it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from everwhen.backends.commit_checks import (
    LONG_AGO,
    check_condition,
    receipt_of,
    refusal_of,
    repeated,
    slices_of_commit,
    time_of_commit,
)
from everwhen.backends.engine import NotFetchedError
from everwhen.backends.postgres.append_call import AppendCall
from everwhen.backends.postgres.lookups import stored_commit
from everwhen.backends.postgres.pages import newer_slices
from everwhen.backends.postgres.sealed_bodies import SealedBodies
from everwhen.backends.postgres.statements import PostgresSession, statements
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.clock import Clock, micros_by
from everwhen.vocabulary.contract import EncodedCommit, EncodedSlice, Outcome, Receipt, StoredSlice
from everwhen.vocabulary.errors import ConflictError, RefusedError, StorageError
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import holds

_POSITION: Final = attrgetter("position")
_BYTES_AT_ONCE: Final = 16 << 20
"""Of bodies in one call: the server takes a gigabyte."""


class CommitWriter:
    """Writes a group of commits in a transaction that was begun, and takes effect with it."""

    def __init__(
        self, session: PostgresSession, schema: str, clock: Clock, bodies: SealedBodies
    ) -> None:
        self._session = session
        self._schema = schema
        self._bodies = bodies
        self._now = micros_by(clock)
        self._versions: dict[str, int] = {}
        self._known: set[bytes] = set()
        self._slices: list[StoredSlice] = []
        self._parts: list[EncodedSlice] = []
        self._lined_up: dict[bytes, list[StoredSlice]] = {}
        self._position, self._recorded_at = 0, LONG_AGO
        self._retired = 0

    def write(
        self, commits: Sequence[EncodedCommit], *, ends_when_idle: bool = True
    ) -> list[Outcome]:
        """Judge the commits in their order, each as if those before it were written; write them.

        A client that stalls loses the lock, where it ``ends_when_idle``.
        """
        self._look(commits, ends_when_idle=ends_when_idle)
        position, versions = self._position, dict(self._versions)
        outcomes = [self._outcome(commit) for commit in commits]
        if self._slices:
            self._insert(position, versions)
        elif any(isinstance(one, Receipt) for one in outcomes):
            # whoever wrote it may not have waited for the standbys: nobody is told before they have
            self._session.execute(statements("writing", self._schema)["reach_standbys"])
        return outcomes

    def _look(self, commits: Sequence[EncodedCommit], *, ends_when_idle: bool) -> None:
        """Take the lock, and learn where the log ends, and its streams.

        Without a pipeline: its end disarms the timeout of a session that is idle, so that a client
        which stalls after it would keep the lock.
        """
        names = {part.stream for commit in commits for part in commit.slices}
        names |= {name for commit in commits for name, _ in commit.expected}
        writing, reading = statements("writing", self._schema), statements("reading", self._schema)
        execute = self._session.execute
        ids = [UUID(bytes=commit.id) for commit in commits if not commit.is_fresh]
        if ends_when_idle:
            execute(writing["end_when_idle"])
        execute(writing["lock"])
        end = execute(reading["ends"]).fetchone()
        if end is not None:
            self._position, self._recorded_at, self._retired = end
        self._versions = dict(execute(reading["versions"], (sorted(names),)).fetchall())
        if ids:
            self._known = {found.bytes for (found,) in execute(reading["known_commits"], (ids,))}

    def _outcome(self, commit: EncodedCommit) -> Outcome:
        try:
            return self._judged(commit)
        except RefusedError as error:
            return error
        except Exception as error:
            if is_interrupt(error) or self._session.info.transaction_status.name != "INTRANS":
                raise
            if isinstance(error, StorageError | NotFetchedError):
                raise
            return refusal_of(commit, error)

    def _judged(self, commit: EncodedCommit) -> Receipt:
        if not commit.is_fresh:
            lined_up = self._lined_up.get(commit.id)
            if lined_up is not None:
                return repeated(commit, lined_up)
            if commit.id in self._known or self._retired:
                stored = stored_commit(self._session, self._schema, commit.id, self._bodies)
                if stored:
                    return repeated(commit, stored)
        for name, expected in commit.expected:
            actual = self._versions.get(name, 0)
            if not holds(expected, actual):
                raise ConflictError(name, expected, actual)
        if commit.condition is not None:
            query, after = commit.condition.query, commit.condition.after
            check_condition(query, after, self._newer(query, after))
        recorded_at = time_of_commit(commit, self._now, self._recorded_at)
        return self._line_up(commit, recorded_at)

    def _newer(self, query: Query, after: int) -> Iterator[StoredSlice]:
        """Every slice after the position that may match, written or lined up."""
        yield from newer_slices(self._session, self._schema, query, after, self._bodies)
        begin = bisect_right(self._slices, after, key=_POSITION)
        yield from islice(self._slices, begin, None)

    def _line_up(self, commit: EncodedCommit, recorded_at: int) -> Receipt:
        stored = slices_of_commit(
            commit, self._position, recorded_at, lambda name: self._versions.get(name, 0)
        )
        self._versions.update({one.stream: one.version for one in stored})
        self._slices += stored
        self._parts += commit.slices
        self._lined_up[commit.id] = stored
        self._position, self._recorded_at = stored[-1].position, recorded_at
        return receipt_of(stored)

    def _insert(self, position: int, versions: dict[str, int]) -> None:
        """Write what is lined up, after the position and versions at which the log ended."""
        for some in _pieces(list(zip(self._slices, self._parts, strict=True))):
            call = AppendCall()
            for one, part in some:
                before = versions.get(one.stream, 0)
                relative = msgspec.structs.replace(
                    one, position=one.position - position, version=one.version - before
                )
                call.add(relative, part)
            call.run(self._session, self._schema)
            position = some[-1][0].position
            versions |= {one.stream: one.version for one, _ in some}


_Piece: TypeAlias = list[tuple[StoredSlice, EncodedSlice]]


def _pieces(slices: _Piece) -> Iterator[_Piece]:
    """The slices in pieces that one call can take."""
    start = volume = 0
    for stop, (one, _) in enumerate(slices, 1):
        volume += len(one.body)
        if volume >= _BYTES_AT_ONCE or stop == len(slices):
            yield slices[start:stop]
            start, volume = stop, 0
