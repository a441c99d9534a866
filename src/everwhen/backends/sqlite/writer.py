"""Writing commits: the checks of each, and one transaction for all that came together.

A commit that is refused, or that fails for what is in it, fails none of its neighbours.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from heapq import merge
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Final, TypeAlias

import apsw

from everwhen.backends.commit_checks import (
    check_condition,
    refusal_of,
    repeated,
    time_of_commit,
    written_one_by_one,
)
from everwhen.backends.engine import NotFetchedError
from everwhen.backends.sqlite.error_translation import translation
from everwhen.backends.sqlite.lookups import stored_commit
from everwhen.backends.sqlite.pages import ends, retired_error, slice_with_name
from everwhen.backends.sqlite.query_plan import Window, rows_to_judge
from everwhen.backends.sqlite.schema import check_schema
from everwhen.backends.sqlite.segments import Segments
from everwhen.backends.sqlite.staging import FileEnd, Staged
from everwhen.backends.sqlite.statements import statements
from everwhen.backends.sqlite.transactions import Transactions, WriteTurn
from everwhen.backends.sqlite.value_sizes import limited, too_large
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.clock import Clock, micros_by
from everwhen.vocabulary.contract import EncodedCommit, Outcome, Receipt, StoredSlice
from everwhen.vocabulary.errors import (
    ConflictError,
    EverwhenError,
    InlineError,
    RefusedError,
    StatementError,
    StorageError,
)
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import holds

InlineWork: TypeAlias = Callable[[apsw.Connection], None]
"""What runs in the transaction, after the events."""
Elsewhere: TypeAlias = Callable[[], Iterator[StoredSlice]]
"""Every slice in other files that may match a commit's condition, in the order of positions."""

_POSITION: Final = attrgetter("position")
_SCHEMA: Final = statements("checking")["schema"]

_OF_THE_MEDIUM: Final = (
    apsw.BusyError,
    apsw.LockedError,
    apsw.FullError,
    apsw.IOError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.NotADBError,
    apsw.InterruptError,
    apsw.NoMemError,
    MemoryError,
)


def is_of_the_medium(error: Exception) -> bool:
    """Whether the medium failed, which is no single commit's fault."""
    if isinstance(error, StorageError):
        return not isinstance(error, StatementError)
    return isinstance(error, _OF_THE_MEDIUM)


def is_not_its_own(error: Exception) -> bool:
    """Whether it isn't for the commit that was judged to answer for."""
    is_passing = isinstance(error, NotFetchedError) or is_interrupt(error)
    return is_passing or is_of_the_medium(error)


class Writer:
    """Writes commits, and remembers where the file ends. Used under the engine's lock."""

    def __init__(
        self,
        transactions: Transactions,
        clock: Clock,
        path: Path,
        segments: Segments,
        version_before: Callable[[str], int],
    ) -> None:
        self._transactions = transactions
        self._connection = transactions.connection
        self._path = path
        self._known = self._segments = segments
        self._now = micros_by(clock)
        self._end = FileEnd(self._connection, version_before)
        self._schema_version: int | None = None
        self._schema: list[Any] = []

    def write(
        self,
        commits: Sequence[EncodedCommit],
        inline: InlineWork | None = None,
        *,
        waits: bool = False,
    ) -> list[Outcome]:
        """Write the commits, and run what is inline with them, in one transaction.

        Unless it ``waits`` for an archive, raises `NotFetchedError` where it would have to.

        Where that fails for what is in one of them, those that happened to be written together
        with it are written one by one, so that it fails none of them.
        """
        try:
            return self._transactions.transact(partial(self._write, commits, inline, waits))
        except InlineError as error:
            if len(commits) == 1:
                return [error]
        except Exception as error:
            if len(commits) == 1 or self._transactions.is_decided or is_not_its_own(error):
                raise
        return written_one_by_one(
            commits,
            lambda commit: self.write((commit,), inline, waits=True),
            self.explained,
            is_of_the_medium,
        )

    def _write(
        self,
        commits: Sequence[EncodedCommit],
        inline: InlineWork | None,
        waits: bool,  # noqa: FBT001 (partial)
        turn: WriteTurn,
    ) -> list[Outcome]:
        group = self.group(turn, waits=waits)
        outcomes = [group.add(commit) for commit in commits]
        group.insert()
        if inline is not None:
            inline(self._connection)
        return outcomes

    def group(self, turn: WriteTurn, *, waits: bool = True) -> Group:
        """What writes commits in the transaction that was begun; ``waits`` as in ``write``."""
        self._segments = self._known if waits else self._known.deferring
        self._catch_up(turn)
        return Group(self)

    def _outcome(
        self, commit: EncodedCommit, staged: Staged, elsewhere: Elsewhere | None
    ) -> Outcome:
        before = self._end.mark(staged)
        try:
            return self._stage(commit, staged, elsewhere)
        except RefusedError as error:
            return error
        except Exception as error:
            if not self._connection.in_transaction or is_not_its_own(error):
                raise
            self._end.take_back(staged, before)
            return self.explained(commit, error)

    def explained(self, commit: EncodedCommit, error: Exception) -> EverwhenError:
        """The error for a commit of which nothing was written."""
        if isinstance(error, apsw.Error):
            explained = too_large(self._connection, self._path, error)
            explained = explained or translation(error, self._path)
            explained.__cause__ = error
            return explained
        return refusal_of(commit, error)

    def _catch_up(self, turn: WriteTurn) -> None:
        """Take in what others have written since the file was known as it is remembered.

        Raises `CorruptStoreError` where a write wouldn't store what is written, and no more. By the
        schema's number only this connection's own changes are known: others' may leave it as it
        was.
        """
        version = self._connection.execute("PRAGMA schema_version").get
        if version != self._schema_version or not turn.is_file_as_left:
            schema: list[Any] = self._connection.execute(_SCHEMA).fetchall()
            if schema != self._schema:
                check_schema(self._connection, self._path)
            self._schema_version, self._schema = version, schema
        if turn.is_file_as_left:
            self._end.trim()
        else:
            self._end.look_again()
            turn.is_file_as_left = True

    def _stage(self, commit: EncodedCommit, staged: Staged, elsewhere: Elsewhere | None) -> Receipt:
        """Judge the commit as if all before it were written, and line its rows up."""
        end, commit_id = self._end, commit.id
        if not commit.is_fresh:
            known = staged.commit(commit_id) or stored_commit(
                self._connection, commit_id, self._segments
            )
            if known:
                return repeated(commit, known)
        for name, expected in commit.expected:
            actual = end.version(name)
            if not holds(expected, actual):
                raise ConflictError(name, expected, actual)
        if commit.condition is not None:
            after = commit.condition.after
            with contextlib.closing(self._newer(commit.condition.query, after, staged)) as newer:
                every = newer if elsewhere is None else merge(newer, elsewhere(), key=_POSITION)
                check_condition(commit.condition.query, after, every)
        end.recorded_at = recorded_at = time_of_commit(commit, self._now, end.recorded_at)
        versions: dict[str, int] = {}
        index = 0
        start = len(staged.slices)
        for part in commit.slices:
            versions[part.stream] = end.line_up(part, commit, index, staged)
            index += part.count
        staged.commits[commit_id] = (start, len(staged.slices))
        return Receipt(commit_id, end.position, recorded_at, versions)

    def _newer(
        self, query: Query, after: int, staged: Staged
    ) -> Generator[StoredSlice, None, None]:
        """Every slice after the position that may match, written or lined up.

        Close it, or a refusal's traceback keeps its statement open: the connection would stay on
        an old snapshot, and the statement would be let go by whatever thread drops the error.
        """
        newest, border, retired = ends(self._connection)
        if after < retired:
            raise retired_error(self._connection, retired)
        if newest > after:
            window = Window(after, newest, border, self._segments, reverse=False)
            with limited(self._connection):
                for row in rows_to_judge(self._connection, query, window):
                    yield slice_with_name(self._connection, row)
        begin = bisect.bisect_right(staged.slices, after, key=itemgetter(0))
        for index in range(begin, len(staged.slices)):
            yield staged.slice(index)


class Group:
    """The commits that one transaction writes. ``Writer.group`` makes it."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._end = writer._end
        self._staged = Staged()

    @property
    def end(self) -> tuple[int, int]:
        """The newest event's position and time, with what was added."""
        return self._end.position, self._end.recorded_at

    def add(self, commit: EncodedCommit) -> Outcome:
        """Judge the commit as if all before it were written, and line its rows up."""
        return self._writer._outcome(commit, self._staged, None)

    def add_after(
        self, commit: EncodedCommit, after: tuple[int, int], elsewhere: Elsewhere | None
    ) -> Outcome:
        """The same, after a position and time that are given from outside.

        ``elsewhere`` are slices of other files, for its condition. A commit that isn't written
        leaves the end where it was.
        """
        end, count = self._end, len(self._staged.slices)
        before = end.position, end.recorded_at
        end.position, end.recorded_at = max(before[0], after[0]), max(before[1], after[1])
        try:
            return self._writer._outcome(commit, self._staged, elsewhere)
        finally:
            if len(self._staged.slices) == count:
                end.position, end.recorded_at = before

    def insert(self) -> None:
        """Write what was added; it takes effect with the transaction."""
        self._staged.insert(self._writer._connection)
