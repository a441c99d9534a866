"""What is derived from the slices, computed again: streams, terms and marks.

Queries find events by these tables, and no hash covers them: a mark that is missing hides a tag, a
second row of a stream's name hides the stream. So all is looked up here by the same statements as
queries use, and counted, so that nothing is there beyond it. Memory stays flat: the slices are
read once, in position order, and of each block its types and categories are looked up once.

The schema has to be right, and SQLite's own check of the file passed: it holds each table against
its indexes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import apsw

from everwhen.backends.index_terms import CATEGORY, TAG, TYPE, block_of, named_in
from everwhen.backends.sqlite.statements import statements
from everwhen.codec.frames import SliceRow
from everwhen.system.limits import MAX_REMEMBERED
from everwhen.vocabulary.contract import MAX_STORED_BYTES, Problem
from everwhen.vocabulary.streams import category_of

_SQL: Final = statements("checking")
_READING: Final = statements("reading")

_KINDS: Final = {TAG: "tag", TYPE: "type", CATEGORY: "category"}


class Sealed(Protocol):
    """What is known of the segments, which have an index of their own."""

    border: int

    def has_term(self, term: int) -> bool:
        """Whether a term occurs in a segment."""
        ...

    def rows_of_block(self, block: int) -> Iterable[SliceRow]:
        """The sealed slices of a block of positions."""
        ...

    def is_partly_unknown(self, block: int) -> bool:
        """Whether slices of a block of positions were retired, or can't be read."""
        ...


def derived_problems(
    connection: apsw.Connection, sealed: Sealed, after: int = 0
) -> Iterator[Problem]:
    """Every event in rows that queries would not find, and every row that these don't make.

    With ``after``, only the slices after that position are looked up.
    """
    if after:
        yield from _Marks(connection, sealed, after).problems()
        return
    for (position,) in connection.execute(_SQL["unreachable_positions"]):
        yield Problem(f"position {position}", "no events stand there, and no read gives them")
    yield from _stream_problems(connection)
    yield from _term_problems(connection, sealed)
    yield from _Marks(connection, sealed).problems()


def _stream_problems(connection: apsw.Connection) -> Iterator[Problem]:
    for id_, stored in connection.execute(_SQL["streams"]):
        name = name_of(stored)
        if name is None:
            yield Problem(f"stream {id_}", f"its name is not valid text: {stored!r:.80}")
            continue
        found = _stream(connection, name)
        if found != id_:
            yield Problem(f"stream {name!r}", f"it has a second row, {id_} beside {found}")
        if connection.execute(_SQL["has_slices"], (id_,)).get is None:
            yield Problem(f"stream {name!r}", f"its row {id_} has no events")


def _term_problems(connection: apsw.Connection, sealed: Sealed) -> Iterator[Problem]:
    for id_, kind, stored in connection.execute(_SQL["terms"]):
        name, what = name_of(stored), _KINDS.get(kind, f"term of kind {kind}")
        where = f"index, {what} {stored!r:.80}" if name is None else f"index, {what} {name!r}"
        if name is None:
            yield Problem(where, "its name is not valid text")
            continue
        found = _term(connection, kind, name)
        if found != id_:
            yield Problem(where, f"it has a second row, {id_} beside {found}")
        if connection.execute(_SQL["has_marks"], (id_,)).get is None and not sealed.has_term(id_):
            yield Problem(where, f"its row {id_} has no marks")


def _stream(connection: apsw.Connection, name: str) -> int | None:
    found: int | None = connection.execute(_READING["stream_id"], (name,)).get
    return found


def _term(connection: apsw.Connection, kind: int, name: str) -> int | None:
    found: int | None = connection.execute(_READING["term_id"], (kind, name)).get
    return found


class _Marks:
    """Holds the marks against the slices."""

    def __init__(self, connection: apsw.Connection, sealed: Sealed, after: int = 0) -> None:
        self._connection = connection
        self._sealed = sealed
        self._after = after
        self._terms: dict[tuple[int, str], int | None] = {}
        self._categories: dict[int, str] = {}
        self._block = -1
        self._in_block: set[tuple[int, str]] = set()
        self._found = 0

    def problems(self) -> Iterator[Problem]:
        """Every mark that is missing, and how many there are beyond those of the slices."""
        self._begin_at_the_border()
        bounds = (max(self._after, self._sealed.border), MAX_STORED_BYTES)
        rows = self._connection.execute(_SQL["bodies"], bounds)
        for position, stream, name, body in rows:
            if type(body) is not bytes:
                continue
            if self._after and not self._is_found(stream, name):
                yield Problem(f"position {position}", f"its stream {name!r:.80} is not found")
            missing = self._missing(position, self._category(stream, name), body)
            for kind, term in missing:
                what = _KINDS[kind]
                yield Problem(
                    f"position {position}", f"the index has no mark for the {what} {term!r}"
                )
        if self._after:
            return
        marks = self._connection.execute(_SQL["count_of_marks"], (self._sealed.border,)).get
        more = marks - self._found
        if more > self._of_unknown():
            yield Problem("index", f"it has {more:,} marks that no events make")

    def _of_unknown(self) -> int:
        """How many marks slices that nobody knows may have made, in a block that goes on."""
        if not self._sealed.is_partly_unknown(block := block_of(self._sealed.border)):
            return 0
        found: int = self._connection.execute(_SQL["count_of_marks_at"], (block,)).get
        return found

    def _begin_at_the_border(self) -> None:
        """Take in the marks of the block that the border is in, which its sealed slices made."""
        self._block = block = block_of(self._sealed.border)
        if block == self._sealed.border:
            return
        for row in self._sealed.rows_of_block(block):
            stored = self._connection.execute(_SQL["name_of_stream"], (row[1],)).get
            category = self._category(row[1], stored)
            wanted = set() if category is None else {(CATEGORY, category)}
            wanted |= {(TYPE, event.type) for event in named_in(row[8])}
            for key in wanted - self._in_block:
                if self._is_marked(key, block):
                    self._in_block.add(key)

    def _is_found(self, stream: int, stored: object) -> bool:
        """Whether queries find the stream by its name; looked up once for each."""
        if stream in self._categories:
            return True
        name = name_of(stored)
        return name is not None and _stream(self._connection, name) == stream

    def _category(self, stream: int, stored: object) -> str | None:
        """None where the stream has no name, which is reported elsewhere."""
        category = self._categories.get(stream)
        if category is None:
            name = name_of(stored)
            if name is None:
                return None
            if len(self._categories) >= MAX_REMEMBERED:
                self._categories.clear()
            self._categories[stream] = category = category_of(name)
        return category

    def _missing(
        self, position: int, category: str | None, body: bytes
    ) -> Iterator[tuple[int, str]]:
        block = block_of(position)
        if block != self._block:
            self._block = block
            self._in_block.clear()
        wanted = set() if category is None else {(CATEGORY, category)}
        tags: set[str] = set()
        for event in named_in(body):
            wanted.add((TYPE, event.type))
            tags.update(event.tags)
        wanted -= self._in_block
        self._in_block |= wanted
        for key in wanted:
            if not self._is_marked(key, block):
                yield key
        for tag in tags:
            if not self._is_marked((TAG, tag), position):
                yield TAG, tag

    def _is_marked(self, key: tuple[int, str], position: int) -> bool:
        term = self._terms.get(key)
        if term is None:
            if len(self._terms) >= MAX_REMEMBERED:
                self._terms.clear()
            self._terms[key] = term = _term(self._connection, *key)
        found = self._connection.execute(_SQL["mark"], (term, position)).get
        self._found += found is not None
        return found is not None


def name_of(stored: object) -> str | None:
    """The name that is stored in these bytes; None where they are no text."""
    try:
        return stored.decode() if isinstance(stored, bytes) else None
    except UnicodeDecodeError:
        return None
