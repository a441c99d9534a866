"""One call of the server's function ``append``, by which all slices are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat

from psycopg.types.numeric import Int8

from everwhen.backends.index_terms import BLOCK, CATEGORY, TAG, TYPE
from everwhen.backends.postgres.binary_arrays import Bigints, Byteas, Texts, Uuids
from everwhen.backends.postgres.page_statements import findable
from everwhen.backends.postgres.statements import PostgresSession, statements
from everwhen.backends.postgres.terms import term_of, terms_of_block
from everwhen.vocabulary.contract import Condition, EncodedSlice, StoredSlice
from everwhen.vocabulary.streams import (
    EXISTS,
    MAX_POSITION,
    NO_STREAM,
    ExpectedVersion,
)


class AppendCall:
    """Slices to be written, as if the log were empty, and what they rest on.

    Their positions and versions are counted from where the log ends, which only the server knows.
    ``latest`` is the newest time that may be there by then, and no commit of the ids that are
    ``used`` may be.
    """

    def __init__(self) -> None:
        self.streams: dict[str, AskedStream] = {}
        self.conditions = AskedConditions()
        self.latest: int | None = None
        self.used: Sequence[bytes] = ()
        self._slices: list[StoredSlice] = []
        self._marks = GroupMarks()

    def stream(self, name: str) -> AskedStream:
        """What is asked of that stream, and added to it."""
        found = self.streams.get(name)
        if found is None:
            found = self.streams[name] = AskedStream(len(self.streams) + 1)
        return found

    def add(self, stored: StoredSlice, part: EncodedSlice) -> None:
        """Take a slice; it follows on those before it."""
        self.stream(stored.stream).added = stored.version
        self._marks.add(stored.stream, part, stored.position)
        self._slices.append(stored)

    def run(
        self, session: PostgresSession, schema: str
    ) -> tuple[int, int | None, list[int] | None]:
        """Where the log ended before, its newest time, and the versions of the streams.

        The versions are None where something that the slices rest on may not hold: then nothing is
        written.
        """
        sql = statements("writing", schema)["append"]
        given = (*self._parameters(), channel_of(schema))
        (found,) = session.execute(sql, given, prepare=True, binary=True).fetchall()
        head, head_time, versions = found
        return head, head_time, versions

    def _parameters(self) -> tuple[object, ...]:
        """What the function takes, in its order."""
        streams, slices = self.streams, self._slices
        return (
            None if self.latest is None else Int8(self.latest),
            Uuids.of(self.used),
            Texts.of(list(streams)),
            Bigints.of([one.lowest for one in streams.values()]),
            Bigints.of([one.highest for one in streams.values()]),
            *self.conditions.parameters(),
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


class AskedStream:
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


class AskedConditions:
    """What nothing may match behind some position, told by terms, which may say too much."""

    def __init__(self) -> None:
        self._terms: list[tuple[int, int, int]] = []
        self._selectors = 0
        self._streams: list[tuple[str, int]] = []
        self._all_after: int | None = None

    def add(self, condition: Condition) -> None:
        """Take one that is of what is in the log."""
        after = min(condition.after, MAX_POSITION)
        for selector in condition.query.selectors:
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
        for term in terms_of_block(stream, part.types):
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


def channel_of(schema: str) -> str:
    """Where word is given of commits to a log."""
    return f"everwhen {schema}"[:63]
