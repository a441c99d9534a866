"""Projections: read models that follow the events, in memory or in SQL tables.

A `Projection` is a fold kept in memory. A `TableProjection` writes rows; they and its checkpoint
change in one transaction, so each event takes effect exactly once, also through ``kill -9``::

    sales = TableProjection("sales", ["CREATE TABLE {sales} (item TEXT PRIMARY KEY, pieces INT)"])

    @sales.on(Sold)
    def _(tables: Tables, sold: RecordedEvent[Sold]) -> None:
        tables.execute(
            "INSERT INTO {sales} VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET pieces = pieces + excluded.pieces",
            (sold.event.item, sold.event.pieces),
        )

A name in braces is a table of the projection. What readers see under that name is a view: while a
new build catches up beside the old one, they go on with the old, and the switch is one transaction.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

from everwhen.contract import Checkpoint, from_micros
from everwhen.engine import EngineTransaction, SqlView
from everwhen.errors import DeclarationError, StatementError, StorageError
from everwhen.failures import read_back
from everwhen.fingerprints import fingerprint
from everwhen.fold import Fold
from everwhen.interrupts import is_interrupt
from everwhen.query import Query
from everwhen.recorded import RecordedEvent
from everwhen.snapshots import Adaptive, Retention, SnapshotStrategy, subject_of
from everwhen.validation import check_plain, check_text
from everwhen.vault import Vault

S = TypeVar("S")
E = TypeVar("E")
F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R", "ProjectionStatus", "ParkedEvent")

_BRACED: Final = re.compile(r"\{(\w+)\}")
_TABLE: Final = re.compile(r"[a-z][a-z0-9_]*\Z")
RECORDS: Final = "projection/"
"""What the names of checkpoints of projections' builds begin with."""

REACTIONS: Final = "reaction/"
"""The same for reactions."""

PARKED: Final = "parked/"
"""The same for the events that either has parked."""

_RECORD: Final = re.compile(
    r"(?P<kind>projection|reaction)/(?P<name>[^@]+)@(?P<version>\d+)\.(?P<number>\d+)\Z"
)
_OURS: Final = frozenset(
    {"slices", "streams", "terms", "marks", "checkpoints", "snapshots", "events"}
)

_NOT_ALLOWED: Final = re.compile(
    r"(\A|;)\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|ATTACH|DETACH|PRAGMA|VACUUM)\b"
    r"|\A\s*END\b|\bOR\s+ROLLBACK\b",
    re.IGNORECASE,
)
_COMMENT: Final = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_LONGEST_NAME: Final = 200
_FIND: Final = "SELECT type FROM sqlite_master WHERE name = ?"


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
_KEPT: Final = Retention()


def check_name(name: str, what: str) -> str:
    """A projection's or reaction's name. Raises `DeclarationError` for one that can't be kept."""
    check_text(name, f"{what} name", DeclarationError)
    if "@" in name or "/" in name or len(name.encode()) > _LONGEST_NAME:
        raise DeclarationError(f"{what} {name!r}: a short name, without @ and /, is needed")
    return name


def check_endless(of: Query | None, what: str) -> Query:
    """What is followed. Raises `DeclarationError` for what is no query, or one with bounds."""
    if of is None:
        return Query()
    if not isinstance(of, Query) or of != Query(of.selectors):
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
            raise DeclarationError(f"{fold!r} is no fold; give a Fold")
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
                f"{unknown[0]} is no table of this projection, whose schema doesn't name it: {sql}"
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
                error.add_note(f"in projection {self.name!r}, at {recorded._where}")
                raise

    def __repr__(self) -> str:
        return f"TableProjection({self.name!r}, version={self.version})"


Kind: TypeAlias = Literal["projection", "reaction"]


class Build(msgspec.Struct, frozen=True):
    """One build of a projection's tables; or a reaction, which has but one."""

    projection: str
    version: int = 1
    number: int = 1
    kind: Kind = "projection"

    @property
    def record(self) -> str:
        """The name of the checkpoint that it is kept under."""
        return f"{self.kind}/{self.projection}@{self.version}.{self.number}"

    @property
    def parked(self) -> str:
        """What the names of the checkpoints of its parked events begin with."""
        return f"{PARKED}{self.record}/"

    def table(self, name: str) -> str:
        """The name of the table itself, behind the view."""
        return f"{name}__{self.version}_{self.number}"

    def physical(self, tables: Sequence[str]) -> Callable[[str], str]:
        """Turns statements with tables in braces into those on this build's tables."""
        braced = re.compile("|".join(rf"\{{{table}\}}" for table in tables))
        known: dict[str, str] = {}

        def physical(sql: str) -> str:
            found = known.get(sql)
            if found is None:
                if _NOT_ALLOWED.search(_COMMENT.sub(" ", sql)):
                    raise StatementError(
                        f"a projection's statement runs inside a transaction that is not its own; "
                        f"leave this to the runner: {sql}"
                    )
                found = braced.sub(lambda match: self.table(match[0][1:-1]), sql)
                if len(known) < 1_000:
                    known[sql] = found
            return found

        return physical


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept with a build's checkpoint.

    ``owner`` is the runner that works on it, by a ``lease`` of that many microseconds from each
    ``beat`` on, which counts its signs of life; ``at`` is the time of the last, in microseconds
    since 1970 UTC. ``rate`` is in events a second. ``erasures`` is how many data subjects had been
    forgotten when the build began. ``code`` is the fingerprint of the functions that worked on it
    last; it ``is_mixed`` where others have before.
    """

    tables: tuple[str, ...]
    is_live: bool = False
    owner: str | None = None
    lease: int = 0
    beat: int = 0
    at: int = 0
    rate: float = 0.0
    skipped: int = 0
    error: str | None = None
    erasures: int = 0
    code: str = ""
    is_mixed: bool = False


class LeaseWatch:
    """What a process has seen of other runners' leases, so that it can tell when one is over.

    A lease is over once nothing has been heard of its holder for as long as it lasts: by this
    process's own monotonic clock, whatever has been done to the time of day. Where nobody has
    watched for that long, the time of day is believed if it says so. A holder that is wrongly
    taken for dead loses some work by it and nothing else: each of its writes checks its lease.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._heard: dict[str, tuple[str | None, int, float]] = {}

    def is_free(self, build: Build, record: Record, owner: str, now: int) -> bool:
        """Whether ``owner`` may work on the build; ``now`` is in microseconds since 1970 UTC."""
        if record.owner is None or record.owner == owner or record.at + record.lease <= now:
            self._heard.pop(build.record, None)
            return True
        holder, beat, since = self._heard.get(build.record, (None, 0, 0.0))
        if (holder, beat) != (record.owner, record.beat):
            since = self._monotonic()
            self._heard[build.record] = (record.owner, record.beat, since)
        return (self._monotonic() - since) * 1_000_000 >= record.lease


class ProjectionStatus(msgspec.Struct, frozen=True):
    """Where a projection stands. ``lag`` is how many positions it is behind the newest event.

    ``state`` is ``live`` (what readers see), ``building`` (beside it, or for the first time),
    ``halted`` (by ``error``) or ``memory``. ``parked`` and ``skipped`` count the events that were
    left out. ``updated_at`` is when its runner was last heard of. It ``is_mixed`` where its
    functions have changed under this version, so that its rows may be of two kinds.
    """

    name: str
    version: int
    build: int
    state: Literal["live", "building", "halted", "memory"]
    position: int
    lag: int
    rate: float
    parked: int
    skipped: int
    error: str | None = None
    owner: str | None = None
    updated_at: datetime | None = None
    kind: Kind = "projection"
    is_mixed: bool = False


class ParkedEvent(msgspec.Struct, frozen=True):
    """An event that a projection left out, to be retried.

    ``error`` is None for one that only waits behind an earlier one of its stream. ``at`` is when it
    was left out, or tried the last time.
    """

    position: int
    stream: str
    type: str
    error: str | None
    at: datetime


_decode_record: Final = msgspec.json.Decoder(Record).decode
_decode_parked: Final = msgspec.json.Decoder(ParkedEvent).decode


def build_of(checkpoint: Checkpoint) -> Build | None:
    """The build that a checkpoint is of; None for another kind of checkpoint."""
    found = _RECORD.match(checkpoint.name)
    if found is None:
        return None
    kind: Kind = "reaction" if found["kind"] == "reaction" else "projection"
    return Build(found["name"], int(found["version"]), int(found["number"]), kind)


def record_of(checkpoint: Checkpoint) -> Record:
    """What is kept with a build's checkpoint. Raises `StorageError` where it is damaged."""
    try:
        return _decode_record(checkpoint.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(
            f"checkpoint {checkpoint.name!r} is damaged ({error}); delete it, and the projection "
            f"is built anew"
        ) from error


def builds_of(checkpoints: Iterable[Checkpoint], name: str) -> dict[Build, Checkpoint]:
    """A projection's builds."""
    found = ((build_of(checkpoint), checkpoint) for checkpoint in checkpoints)
    return {
        build: kept
        for build, kept in found
        if build is not None and build.projection == name and build.kind == "projection"
    }


def parked_of(checkpoints: Iterable[Checkpoint], build: Build) -> list[ParkedEvent]:
    """A build's parked events, in order."""
    found: list[ParkedEvent] = []
    for checkpoint in checkpoints:
        if checkpoint.name.startswith(build.parked):
            try:
                found.append(_decode_parked(checkpoint.data))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise StorageError(
                    f"checkpoint {checkpoint.name!r} is damaged ({error}); delete it, and rebuild "
                    f"the projection"
                ) from error
    return sorted(found, key=lambda parked: parked.position)


def read_back_in(found: R, vault: Vault | None) -> R:
    """What was found, with its error as it may be shown."""
    if found.error is None:
        return found
    return msgspec.structs.replace(found, error=read_back(found.error, vault))


def parked_checkpoint(build: Build, parked: ParkedEvent) -> Checkpoint:
    """How a parked event is kept."""
    name = f"{build.parked}{parked.position}"
    return Checkpoint(name, parked.position, msgspec.json.encode(parked))


def kept(build: Build, position: int, record: Record) -> Checkpoint:
    """How a build is kept."""
    return Checkpoint(build.record, position, msgspec.json.encode(record))


def status_of(
    build: Build, known: Checkpoint, checkpoints: Sequence[Checkpoint], head: int
) -> ProjectionStatus:
    """Where a build stands, out of all checkpoints."""
    record = record_of(known)
    state: Literal["live", "building"] = "live" if record.is_live else "building"
    return ProjectionStatus(
        build.projection,
        build.version,
        build.number,
        "halted" if record.error else state,
        known.position,
        max(0, head - known.position),
        record.rate,
        sum(other.name.startswith(build.parked) for other in checkpoints),
        record.skipped,
        record.error,
        record.owner,
        from_micros(record.at),
        build.kind,
        record.is_mixed,
    )


def statuses_of(checkpoints: Sequence[Checkpoint], head: int) -> list[ProjectionStatus]:
    """Where everything stands that has a checkpoint: projections that keep tables, reactions."""
    builds = ((build_of(checkpoint), checkpoint) for checkpoint in checkpoints)
    return [status_of(b, known, checkpoints, head) for b, known in builds if b is not None]


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
        for (kind,) in transaction.execute(_FIND, (table,)):
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
    transaction.execute("SAVEPOINT everwhen_declared")
    try:
        for sql in projection.schema:
            with suppress(StatementError):  # an index's name, say, that has no braces
                transaction.execute(physical(sql))
        wanted = {t: _columns(transaction, declared.table(t)) for t in projection.tables}
    finally:
        transaction.execute("ROLLBACK TO everwhen_declared")
        transaction.execute("RELEASE everwhen_declared")
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
    rows = transaction.execute(
        'SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info(?)', (table,)
    )
    return [
        f"{name} {kind}".strip()
        + (" PRIMARY KEY" if key else "")
        + (" NOT NULL" if is_needed else "")
        + (f" DEFAULT {default}" if default is not None else "")
        for name, kind, is_needed, default, key in rows
    ]


def switch(transaction: EngineTransaction, build: Build, tables: Iterable[str]) -> None:
    """Let readers see this build under the tables' names.

    Raises `StatementError` where a name is taken by something else.
    """
    for table in tables:
        transaction.execute(f'DROP VIEW IF EXISTS "{table}"')
        transaction.execute(view_sql(build, table))


def view_sql(build: Build, table: str) -> str:
    """The statement that makes the view which readers see a table by."""
    return f'CREATE VIEW "{table}" AS SELECT * FROM {build.table(table)}'


def retire(
    transaction: EngineTransaction, build: Build, record: Record, staying: Iterable[str]
) -> None:
    """Drop what an old build leaves behind: tables, parked events, views that nobody takes over."""
    found: list[tuple[str, str]] = []
    for table in record.tables:
        if record.is_live and table not in staying:
            transaction.execute(f'DROP VIEW IF EXISTS "{table}"')
        physical = build.table(table)
        found += [(kind, physical) for (kind,) in transaction.execute(_FIND, (physical,))]
    for kind, physical in sorted(found, reverse=True):  # views first, then what they look at
        transaction.execute(f"DROP {kind.upper()} IF EXISTS {physical}")
    for left in (build.record, *(c.name for c in transaction.checkpoints(build.parked))):
        transaction.delete_checkpoint(left)
