"""A group of commits in one call of the server's function ``append``.

The call says what the commits rest on, and the server only tells whether all of that holds: which
versions of streams are right, and behind which positions nothing may stand that a condition asks
for. Where it may not hold, nothing is written, and `everwhen.backends.postgres.writer` judges each
commit by itself, with the log's lock held meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Final

from psycopg.types.numeric import Int8

from everwhen.backends.commit_checks import (
    LONG_AGO,
    slices_of_commit,
    time_of_commit,
)
from everwhen.backends.index_terms import BLOCK, CATEGORY, TAG, TYPE
from everwhen.backends.postgres.binary_arrays import Bigints, Byteas, Texts, Uuids
from everwhen.backends.postgres.page_statements import findable
from everwhen.backends.postgres.pages import PostgresSession
from everwhen.backends.postgres.statements import statements
from everwhen.backends.postgres.terms import term_of
from everwhen.backends.postgres.writer import channel_of
from everwhen.vocabulary.clock import Clock, micros_by
from everwhen.vocabulary.contract import (
    Condition,
    EncodedCommit,
    EncodedSlice,
    Outcome,
    Receipt,
    StoredSlice,
)
from everwhen.vocabulary.errors import EverwhenError
from everwhen.vocabulary.query import Selector
from everwhen.vocabulary.streams import (
    EXISTS,
    MAX_POSITION,
    NO_STREAM,
    ExpectedVersion,
    category_of,
)

MOST_BYTES: Final = 64 << 20
"""Of bodies in one call; the server takes a gigabyte."""


def written_in_one_call(
    session: PostgresSession, schema: str, clock: Clock, commits: Sequence[EncodedCommit]
) -> list[Outcome] | None:
    """The commits' receipts, once all of them are written; None where none is.

    The session is outside of any transaction.
    """
    try:
        group = _Group(commits, clock)
    except _NotInOneCallError:
        return None
    sql = statements("writing", schema)["append"]
    given = (*group.parameters(), channel_of(schema))
    ((head, head_time, heads),) = session.execute(sql, given, prepare=True, binary=True).fetchall()
    return None if heads is None else group.receipts(head, head_time, heads)


class _NotInOneCallError(Exception):
    """Only whoever holds the lock can judge the commits."""


class _Group:
    """Commits as if the log were empty: positions and versions are counted from where it ends."""

    def __init__(self, commits: Sequence[EncodedCommit], clock: Clock) -> None:
        if len({commit.id for commit in commits}) < len(commits):
            raise _NotInOneCallError
        if sum(len(part.body) for commit in commits for part in commit.slices) > MOST_BYTES:
            raise _NotInOneCallError
        self._now = micros_by(clock)
        self._used = [commit.id for commit in commits if not commit.is_fresh]
        self._streams: dict[str, _Stream] = {}
        self._conditions = _Conditions()
        self._marks = GroupMarks()
        self._slices: list[StoredSlice] = []
        self._written: list[tuple[bytes, int, int, dict[str, int]]] = []
        self._position, self._recorded_at = 0, LONG_AGO
        self._latest: int | None = None
        for commit in commits:
            self._line_up(commit)

    def _line_up(self, commit: EncodedCommit) -> None:
        for name, expected in commit.expected:
            self._stream(name).expect(expected)
        if commit.condition is not None:
            self._conditions.add(commit.condition)
        try:
            self._recorded_at = time_of_commit(commit, self._now, self._recorded_at)
        except EverwhenError:
            raise _NotInOneCallError from None
        if self._latest is None:
            self._latest = commit.recorded_at
        stored = slices_of_commit(
            commit, self._position, self._recorded_at, lambda name: self._stream(name).added
        )
        for one, part in zip(stored, commit.slices, strict=True):
            self._stream(one.stream).added = one.version
            self._conditions.note(one.stream, part)
            self._marks.add(one.stream, part, one.position)
        self._slices += stored
        self._position = stored[-1].position
        versions = {one.stream: one.version for one in stored}
        self._written.append((commit.id, self._position, self._recorded_at, versions))

    def _stream(self, name: str) -> _Stream:
        found = self._streams.get(name)
        if found is None:
            found = self._streams[name] = _Stream(len(self._streams) + 1)
        return found

    def parameters(self) -> tuple[object, ...]:
        """What the function takes, in its order."""
        streams, slices = self._streams, self._slices
        return (
            None if self._latest is None else Int8(self._latest),
            Uuids.of(self._used),
            Texts.of(list(streams)),
            Bigints.of([one.lowest for one in streams.values()]),
            Bigints.of([one.highest for one in streams.values()]),
            *self._conditions.parameters(),
            Bigints.of([streams[one.stream].number for one in slices]),
            Bigints.of([one.position for one in slices]),
            Bigints.of([one.version for one in slices]),
            Bigints.of([one.count for one in slices]),
            Bigints.of([one.recorded_at for one in slices]),
            Uuids.of([one.commit_id for one in slices]),
            Bigints.of([one.first_index for one in slices]),
            Byteas.of([one.metadata for one in slices]),
            Byteas.of([one.body for one in slices]),
            *self._marks.parameters(),
        )

    def receipts(self, head: int, head_time: int | None, heads: Sequence[int]) -> list[Outcome]:
        """Those of the commits, written after the position and after these versions."""
        newest = LONG_AGO if head_time is None else head_time
        return [
            Receipt(
                id_,
                head + position,
                max(newest, recorded_at),
                {name: heads[self._streams[name].number - 1] + n for name, n in versions.items()},
            )
            for id_, position, recorded_at, versions in self._written
        ]


class _Stream:
    """What a group asks of a stream's version before it, and what it adds."""

    __slots__ = ("added", "highest", "lowest", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.lowest, self.highest = 0, MAX_POSITION
        self.added = 0

    def expect(self, expected: ExpectedVersion) -> None:
        """Take what a commit believes, after those of the group that are before it."""
        if isinstance(expected, int) or expected is NO_STREAM:
            version = (expected if isinstance(expected, int) else 0) - self.added
            version = max(-1, min(version, MAX_POSITION))
            self.highest = min(self.highest, version)
            self.lowest = max(self.lowest, version)
        elif expected is EXISTS:
            self.lowest = max(self.lowest, 1 - self.added)


class _Conditions:
    """What nothing may match behind some position, told by terms, which may say too much."""

    def __init__(self) -> None:
        self._terms: list[tuple[int, int, int]] = []
        self._selectors = 0
        self._streams: list[tuple[str, int]] = []
        self._all_after: int | None = None
        self._noted_streams: set[str] = set()
        self._noted_categories: set[str] = set()
        self._noted_types: set[str] = set()
        self._noted_tags: set[str] = set()

    def add(self, condition: Condition) -> None:
        """Take one. Raises `_NotInOneCallError` where a commit before it may break it."""
        after = min(condition.after, MAX_POSITION)
        for selector in condition.query.selectors:
            if self._may_match(selector):
                raise _NotInOneCallError
            if selector.streams:
                self._streams += zip(map(findable, selector.streams), repeat(after))
            elif selector.tags:
                self._ask((term_of(TAG, tag) for tag in selector.tags), after)
            elif selector.types:
                for name in selector.types:
                    self._ask((term_of(TYPE, name),), after)
            elif selector.categories:
                for name in selector.categories:
                    self._ask((term_of(CATEGORY, name),), after)
            else:
                self._all_after = after if self._all_after is None else min(after, self._all_after)

    def _ask(self, terms: Iterable[int], after: int) -> None:
        """Nothing that has all of the terms may stand there."""
        self._selectors += 1
        self._terms += ((self._selectors, term, after) for term in terms)

    def note(self, stream: str, part: EncodedSlice) -> None:
        """A commit of the group has such events."""
        self._noted_streams.add(stream)
        self._noted_categories.add(category_of(stream))
        self._noted_types.update(part.types)
        self._noted_tags.update(part.tags)

    def _may_match(self, selector: Selector) -> bool:
        pairs = (
            (selector.streams, self._noted_streams),
            (selector.categories, self._noted_categories),
            (selector.types, self._noted_types),
        )
        return (
            bool(self._noted_streams)
            and all(not asked or asked & noted for asked, noted in pairs)
            and selector.tags <= self._noted_tags
        )

    def parameters(self) -> tuple[object, ...]:
        """What the function takes of them, in its order."""
        return (
            Bigints.of([number for number, _, _ in self._terms]),
            Bigints.of([term for _, term, _ in self._terms]),
            Bigints.of([after for _, _, after in self._terms]),
            Texts.of([name for name, _ in self._streams]),
            Bigints.of([after for _, after in self._streams]),
            None if self._all_after is None else Int8(self._all_after),
        )


class GroupMarks:
    """The marks of a group; those of blocks are told by some of the positions in them.

    Only the server knows where blocks begin, as it knows where the log ends.
    """

    def __init__(self) -> None:
        self._tags: dict[tuple[int, int], None] = {}
        self._blocks: dict[int, list[int]] = {}

    def add(self, stream: str, part: EncodedSlice, position: int) -> None:
        """Mark a slice at a position."""
        for tag in part.tags:
            self._tags[term_of(TAG, tag), position] = None
        for term in (
            term_of(CATEGORY, category_of(stream)),
            *(term_of(TYPE, name) for name in part.types),
        ):
            told = self._blocks.setdefault(term, [])
            if len(told) > 1 and position - told[-2] < BLOCK:
                told[-1] = position  # the one between is in the block of either
            else:
                told.append(position)

    def marks(self) -> list[tuple[int, int, int]]:
        """Each term, where it stands, and how many positions after the first share its mark."""
        tags = [(term, position, 0) for term, position in self._tags]
        for term, told in self._blocks.items():
            tags += ((term, position, BLOCK - 1) for position in told)
        return tags

    def parameters(self) -> tuple[object, ...]:
        """What the function takes of them, in its order."""
        marks = self.marks()
        return tuple(Bigints.of([mark[part] for mark in marks]) for part in range(3))
