"""Projections: read models that follow the events, in memory or in SQL tables.

A `Projection` is a fold kept in memory. A `TableProjection` writes rows; they and its checkpoint
change in one transaction, so each event takes effect exactly once, also through ``kill -9``::

    sales = TableProjection("sales", ["CREATE TABLE {sales} (item TEXT PRIMARY KEY, pieces INT)"])

    @sales.on(Sold)
    def _(tables: Tables, sold: RecordedEvent[Sold]) -> None:
        tables.execute(
            "INSERT INTO {sales} VALUES (?, ?)"
            " ON CONFLICT (item) DO UPDATE SET pieces = {sales}.pieces + excluded.pieces",
            (sold.event.item, sold.event.pieces),
        )

A name in braces is a table of the projection. What readers see under that name is a view: while a
new build catches up beside the old one, they go on with the old, and the switch is one transaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from everwhen.backends.engine import EngineTransaction
from everwhen.backends.sql_dialect import SqlView
from everwhen.codec.recorded_events import RecordedEvent, place_in_words
from everwhen.projections.code_fingerprints import fingerprint
from everwhen.state.fold import Fold
from everwhen.state.snapshots import Adaptive, Retention, SnapshotStrategy, subject_of
from everwhen.store.projection_records import (
    RECORDS,
    Build,
    BuildRecord,
    build_of,
    builds_of,
    record_of,
)
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.contract import Checkpoint
from everwhen.vocabulary.errors import DeclarationError, StatementError, StorageError
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.validation import check_plain, check_text

S = TypeVar("S")
E = TypeVar("E")
F = TypeVar("F", bound=Callable[..., Any])

_BRACED: Final = re.compile(r"\{(\w+)\}")
_TABLE: Final = re.compile(r"[a-z][a-z0-9_]*\Z")


_OURS: Final = frozenset(
    {"slices", "streams", "terms", "marks", "checkpoints", "snapshots", "events"}
)

_MAX_NAME_BYTES: Final = 200
"""Leaves room for what table names and checkpoints add to it."""


class OnError(msgspec.Struct, frozen=True):
    """What becomes of an event that a projection's function fails on.

    It is tried ``retries`` times more, after ``pause`` seconds, then twice as many, and so on.
    Then: ``halt`` stops the projection there; ``skip`` leaves the event out; ``park`` leaves it
    out too, and with it every later event of its stream, until they are retried, in order.
    """

    then: Literal["halt", "skip", "park"] = "halt"
    retries: int = 3
    pause: float = 0.05

    def __post_init__(self) -> None:
        if self.then not in ("halt", "skip", "park"):
            raise DeclarationError(f"OnError({self.then!r}): use 'halt', 'skip' or 'park'")
        if type(self.retries) is not int or self.retries < 0 or not self.pause >= 0:
            raise DeclarationError(f"{self!r}: retries and pause are 0 or more")


HALT: Final = OnError()
SELDOM: Final = Adaptive(seconds=0.5, shortest=10_000, longest=1_000_000)
"""A projection loads its state only when it starts: its snapshots may lie further apart."""
_KEPT: Final = Retention()


def check_name(name: str, what: str) -> str:
    """A projection's or reaction's name. Raises `DeclarationError` for one that can't be kept."""
    check_text(name, f"{what} name", DeclarationError)
    if "@" in name or "/" in name or len(name.encode()) > _MAX_NAME_BYTES:
        raise DeclarationError(f"{what} {name!r}: a short name, without @ and /, is needed")
    return name


def check_endless(of: Query | None, what: str) -> Query:
    """What is followed. Raises `DeclarationError` for no query, and for one with bounds."""
    if of is None:
        return Query()
    if not isinstance(of, Query) or of != Query(of.selectors, skips_retired=of.skips_retired):
        raise DeclarationError(
            f"{what} follows a query without bounds, limit and direction; got of={of!r}"
        )
    return of


class Projection(Generic[S]):
    """A fold's state, kept in memory by a runner in each process that wants it.

    ``of`` says which events it is given. It starts from its newest snapshot: ``strategy`` says when
    the next one is taken, seldom unless given, and ``retention`` how many are kept. Its name is
    the fold's unless given.
    """

    def __init__(
        self,
        fold: Fold[S],
        *,
        name: str | None = None,
        of: Query | None = None,
        on_error: OnError = HALT,
        strategy: SnapshotStrategy = SELDOM,
        retention: Retention = _KEPT,
    ) -> None:
        if not isinstance(fold, Fold):
            raise DeclarationError(f"expected a Fold, got {fold!r}")
        self.fold = fold
        self.name = fold.name if name is None else check_name(name, "projection")
        self.of = check_endless(of, f"projection {self.name!r}")
        self.on_error = on_error
        self.strategy = strategy
        self.retention = retention
        self.subject = subject_of(fold, self.of)

    @property
    def version(self) -> int:
        """Its fold's version."""
        return self.fold.version

    def __repr__(self) -> str:
        return f"Projection({self.name!r}, version={self.version})"


def is_its_own(error: Exception) -> bool:
    """Whether a projection's own code is at fault, not the medium or what interrupts the call."""
    if isinstance(error, StorageError) and not isinstance(error, StatementError):
        return False
    return not is_interrupt(error)


class Tables:
    """A projection's tables, inside a transaction: of no use before and after it."""

    __slots__ = ("_physical", "_view")

    def __init__(self, view: SqlView, physical: Callable[[str], str]) -> None:
        self._view: SqlView | None = view
        self._physical = physical

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Run one SQL statement and return its rows; parameters go by place or by name.

        Raises `StatementError`, also for what would end the transaction or leave the tables.
        """
        if self._view is None:
            raise StatementError("these tables' transaction is over; don't keep them")
        physical = self._physical(sql)
        try:
            return self._view.execute(physical, parameters)
        except StatementError as error:
            unknown = _BRACED.search(physical)
            if unknown is None:
                raise
            raise StatementError(
                f"{unknown[0]} is not a table of this projection; its schema doesn't name it: {sql}"
            ) from error

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *failure: object) -> None:
        self._view = None


class TableProjection:
    """Rows in SQL tables, written by a function for each event type.

    ``schema`` holds the statements that make the tables, each named in braces. Raise ``version``
    whenever they or a function change: a new build then catches up beside the one that readers
    see, and takes its place when it has.
    """

    def __init__(
        self,
        name: str,
        schema: Sequence[str],
        *,
        version: int = 1,
        of: Query | None = None,
        on_error: OnError = HALT,
    ) -> None:
        self.name = check_name(name, "projection")
        if type(version) is not int or version < 1:
            raise DeclarationError(f"projection {name!r}: version {version!r}; they are 1, 2, 3 …")
        self.version = version
        self.schema = tuple([schema] if isinstance(schema, str) else schema)
        self.tables = tuple(dict.fromkeys(t for sql in self.schema for t in _BRACED.findall(sql)))
        self.of = check_endless(of, f"projection {name!r}")
        self.on_error = on_error
        self._by_class: dict[type[Any], Callable[[Tables, RecordedEvent[Any]], Any]] = {}
        self._otherwise: Callable[[Tables, RecordedEvent[Any]], Any] | None = None
        if not self.tables:
            raise DeclarationError(
                f"projection {name!r} has no tables; name one in braces: CREATE TABLE {{sales}} (…)"
            )
        for table in self.tables:
            if not _TABLE.match(table) or table in _OURS or "__" in table:
                raise DeclarationError(
                    f"projection {name!r}: table {table!r}; use small letters, digits and single "
                    f"underscores, and none of the names that Everwhen uses itself"
                )

    def on(
        self, event_type: type[E]
    ) -> Callable[
        [Callable[[Tables, RecordedEvent[E]], Any]], Callable[[Tables, RecordedEvent[E]], Any]
    ]:
        """Declare which rows an event of this class changes."""

        def declare(
            function: Callable[[Tables, RecordedEvent[E]], Any],
        ) -> Callable[[Tables, RecordedEvent[E]], Any]:
            if event_type in self._by_class:
                raise DeclarationError(
                    f"projection {self.name!r} has two functions for {event_type.__name__}; "
                    f"keep one"
                )
            check_plain(function, f"projection {self.name!r}")
            self._by_class[event_type] = function
            return function

        return declare

    def otherwise(self, function: F) -> F:
        """Declare which rows every other event changes."""
        check_plain(function, f"projection {self.name!r}")
        self._otherwise = function
        return function

    @property
    def event_classes(self) -> Collection[type[Any]]:
        """The classes of events that functions are declared for."""
        return self._by_class.keys()

    @property
    def code(self) -> str:
        """The fingerprint of its functions."""
        named = [(f"{cls.__module__}.{cls.__qualname__}", f) for cls, f in self._by_class.items()]
        return fingerprint([*named, *([("", self._otherwise)] if self._otherwise else ())])

    def apply(self, tables: Tables, recorded: RecordedEvent[Any]) -> None:
        """Let an event take effect on the rows."""
        function = self._by_class.get(type(recorded.event), self._otherwise)
        if function is not None:
            try:
                function(tables, recorded)
            except Exception as error:
                error.add_note(f"in projection {self.name!r}, at {place_in_words(recorded)}")
                raise

    def __repr__(self) -> str:
        return f"TableProjection({self.name!r}, version={self.version})"


def check_names(projection: TableProjection, checkpoints: Iterable[Checkpoint]) -> None:
    """Raises `DeclarationError` where another projection has a table of the same name."""
    for checkpoint in checkpoints:
        build = build_of(checkpoint)
        if build is None or build.kind == "reaction" or build.projection == projection.name:
            continue
        both = set(projection.tables).intersection(record_of(checkpoint).tables)
        if both:
            raise DeclarationError(
                f"projection {projection.name!r}: table {min(both)!r} belongs to projection "
                f"{build.projection!r}; name it otherwise"
            )


def create_tables(
    transaction: EngineTransaction, projection: TableProjection, build: Build
) -> None:
    """Make a build's tables.

    Raises `StatementError` where the schema can't be run, and `DeclarationError` where a name is
    that of a table already.
    """
    builds = builds_of(transaction.checkpoints(RECORDS), projection.name)
    ours = {table for known in builds.values() for table in record_of(known).tables}
    for table in projection.tables:
        for kind in _kinds(transaction, table):
            if kind == "table" or table not in ours:
                raise DeclarationError(
                    f"projection {projection.name!r}: {table!r} is a {kind} of its own in this "
                    f"file; name the projection's otherwise"
                )
    physical = build.physical(projection.tables)
    for sql in projection.schema:
        transaction.execute(physical(sql))


def check_schema(transaction: EngineTransaction, projection: TableProjection, build: Build) -> None:
    """Raises `DeclarationError` where a build's tables don't have the columns that are declared.

    What is declared is made beside it for a moment, under the number 0 that no build has.
    """
    declared = Build(projection.name, projection.version, 0)
    physical = declared.physical(projection.tables)
    with transaction.dialect.trial(transaction):
        for sql in projection.schema:
            with suppress(StatementError):  # an index's name, say, that has no braces
                transaction.execute(physical(sql))
        wanted = {t: _columns(transaction, declared.table(t)) for t in projection.tables}
    for table, columns in wanted.items():
        there = _columns(transaction, build.table(table))
        if columns and there != columns:
            what = f"has the columns {', '.join(there)}" if there else "isn't there"
            raise DeclarationError(
                f"projection {projection.name!r} version {projection.version}: table {table!r} in "
                f"the file {what}, and its schema declares {', '.join(columns)}; a changed schema "
                f"needs a new version: TableProjection(…, version={projection.version + 1})"
            )


def _columns(transaction: EngineTransaction, table: str) -> list[str]:
    """A table's columns, each as it is declared."""
    return [declared for _, declared in transaction.dialect.columns(transaction, table)]


def _kinds(transaction: EngineTransaction, name: str) -> list[str]:
    """What of that name is in the database: a table, say."""
    found = transaction.dialect.objects(transaction, (name,))
    return [one.kind for one in found if one.name == name]


def switch(transaction: EngineTransaction, build: Build, tables: Iterable[str]) -> None:
    """Let readers see this build under the tables' names.

    Raises `StatementError` where a name is taken by something else.
    """
    for table in tables:
        transaction.dialect.show(transaction, table, build.table(table))


def retire(
    transaction: EngineTransaction, build: Build, record: BuildRecord, staying: Iterable[str]
) -> None:
    """Drop what an old build leaves: tables, parked events, views that nobody takes over."""
    found: list[tuple[str, str]] = []
    for table in record.tables:
        if record.is_live and table not in staying:
            transaction.execute(f'DROP VIEW IF EXISTS "{table}"')
        physical = build.table(table)
        found += [(kind, physical) for kind in _kinds(transaction, physical)]
    for kind, physical in sorted(found, reverse=True):  # views first, then what they look at
        transaction.execute(f"DROP {kind.upper()} IF EXISTS {physical}")
    for left in (build.record, *(c.name for c in transaction.checkpoints(build.parked))):
        transaction.delete_checkpoint(left, local=True)
