"""What is derived from the events and kept beside them: what of it can't be so.

Read models and their positions are held against the schema and the newest position, and, where
their code is at hand, against what that makes of the events again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, Final

from everwhen.contract import Checkpoint, Problem
from everwhen.engine import EngineView, SqlView
from everwhen.errors import StorageError
from everwhen.projections import (
    PARKED,
    REACTIONS,
    RECORDS,
    Build,
    TableProjection,
    build_of,
    parked_of,
    record_of,
    view_sql,
)
from everwhen.query import Query

LONGEST_QUOTED: Final = 120
_SCHEMA: Final = "SELECT type, name, tbl_name, sql FROM sqlite_schema"

_Object = tuple[str, str, str]
"""Its type, the table that it is on, and its SQL."""


def told_build(build: Build) -> str:
    """A build, in words."""
    if build.kind == "reaction":
        return f"reaction {build.projection!r}"
    return f"projection {build.projection!r} version {build.version}, build {build.number}"


def newest_position(view: EngineView) -> int:
    """The newest event's position, as the view sees it; 0 where there is none."""
    return max((part.position for part in view.read(Query().backwards(), 1).slices), default=0)


def record_problems(view: EngineView, *, sql: bool) -> list[Problem]:
    """What is wrong with the positions, tables, views and parked events of what follows the events.

    Each is judged by itself: nothing is computed again.
    """
    newest = newest_position(view)
    found: list[Problem] = []
    live: dict[str, Build] = {}
    builds: set[Build] = set()
    for known in (*view.checkpoints(RECORDS), *view.checkpoints(REACTIONS)):
        build = build_of(known)
        if build is None:
            found.append(_checkpoint(known, "is of no projection or reaction; delete it"))
            continue
        builds.add(build)
        found += _build_problems(view, build, known, newest, live, sql=sql)
    found += _stray(view, builds)
    return found


def _build_problems(
    view: EngineView,
    build: Build,
    known: Checkpoint,
    newest: int,
    live: dict[str, Build],
    *,
    sql: bool,
) -> Iterator[Problem]:
    where = told_build(build)
    try:
        record = record_of(known)
        parked = parked_of(view.checkpoints(build.parked), build)
    except StorageError as error:
        yield Problem(where, str(error))
        return
    if known.position > newest:
        yield Problem(
            where,
            f"it has come to position {known.position}, and the newest event is at {newest}; "
            f"rebuild it, or restore the events",
        )
    if record.is_live and live.setdefault(build.projection, build) != build:
        other = live[build.projection]
        yield Problem(where, f"readers see build {other.version}.{other.number}, too; rebuild it")
    for event in parked:
        if event.position > known.position:
            why = f"the event at {event.position} is parked, which it hasn't come to"
            yield Problem(where, f"{why}; rebuild it")
            continue
        at = Query().after(event.position - 1).up_to(event.position)
        if event.stream not in {part.stream for part in view.read(at, 1).slices}:
            why = f"the event at {event.position} is parked, which isn't in stream {event.stream!r}"
            yield Problem(where, f"{why}; rebuild it")
    if sql and build.kind == "projection":
        yield from _table_problems(view, build, record.tables, is_live=record.is_live)


def _table_problems(
    view: EngineView, build: Build, tables: tuple[str, ...], *, is_live: bool
) -> Iterator[Problem]:
    where = told_build(build)
    objects = {
        name: rest for name, *rest in schema_objects(view, {*tables, *map(build.table, tables)})
    }
    for table in tables:
        if build.table(table) not in objects:
            yield Problem(where, f"its table {build.table(table)!r} is missing; rebuild it")
        if not is_live:
            continue
        kind, _, text = objects.get(table, ("", "", ""))
        if kind != "view":
            yield Problem(where, f"the view {table!r} that shows its rows is missing; rebuild it")
        elif text != view_sql(build, table):
            shown = f"the view {table!r} shows something else than its rows"
            yield Problem(where, f"{shown}, but: {text:.{LONGEST_QUOTED}}; rebuild it")


def _stray(view: EngineView, builds: set[Build]) -> Iterator[Problem]:
    """Parked events of what there isn't."""
    known = tuple(build.parked for build in builds)
    for checkpoint in view.checkpoints(PARKED):
        if not checkpoint.name.startswith(known):
            why = "is a parked event of a projection that isn't there; delete it"
            yield _checkpoint(checkpoint, why)


def _checkpoint(checkpoint: Checkpoint, why: str) -> Problem:
    return Problem(f"checkpoint {checkpoint.name!r}", f"it {why}")


def schema_objects(view: SqlView, names: set[str]) -> Iterator[tuple[str, str, str, str]]:
    """The objects of the schema that are of these names, or on tables of these names."""
    for kind, name, table, sql in view.rows(_SCHEMA):
        if name in names or table in names:
            yield name, kind, table, " ".join((sql or "").split())


# Against what the code makes again


def schema_problems(
    stored: SqlView, rebuilt: SqlView, build: Build, projection: TableProjection
) -> Iterator[Problem]:
    """In what a build's tables, and what is on them, aren't what the projection declares.

    An index or table more is somebody's own; a trigger more may have changed rows.
    """
    where, names = told_build(build), set(map(build.table, projection.tables))
    found = {name: tuple(rest) for name, *rest in schema_objects(stored, names)}
    declared = {name: tuple(rest) for name, *rest in schema_objects(rebuilt, names)}
    for name, wanted in declared.items():
        there = found.get(name)
        if there is None:
            yield Problem(where, f"the {wanted[0]} {name!r} is missing; rebuild it")
        elif there != wanted:
            why = f"the {there[0]} {name!r} isn't as it is declared"
            yield Problem(where, f"{why}, but: {there[2]:.{LONGEST_QUOTED}}; rebuild it")
    for name, (kind, *_) in found.items():
        if kind == "trigger" and name not in declared:
            yield Problem(where, f"the trigger {name!r} is none that it declares; rebuild it")


def row_problems(
    stored: SqlView,
    rebuilt: SqlView,
    build: Build,
    projection: TableProjection,
    hint: str,
    *,
    shows_values: bool,
) -> Iterator[Problem]:
    """For each table the first row that isn't the same in both, in the order of all columns.

    Memory stays flat. ``hint`` says what else than an alteration may have led to that.
    """
    where = told_build(build)
    for table in projection.tables:
        name = build.table(table)
        columns = [_quoted(column) for (column,) in rebuilt.rows(_columns(name))]
        if columns != [_quoted(column) for (column,) in stored.rows(_columns(name))]:
            continue  # the schema has been found fault with
        by = ", ".join(f"typeof({column}), {column} COLLATE BINARY" for column in columns)
        sql = f"SELECT {', '.join(columns)} FROM {name} ORDER BY {by}"
        for there, wanted in zip_longest(stored.rows(sql), rebuilt.rows(sql)):
            if _exact(there) != _exact(wanted):
                counts = [
                    next(view.rows(f"SELECT count(*) FROM {name}"))[0] for view in (stored, rebuilt)
                ]
                what = _difference(there, wanted, counts, shows_values=shows_values)
                yield Problem(where, f"table {table!r}: {what}; {hint}")
                break


def _columns(table: str) -> str:
    return f"SELECT name FROM pragma_table_info('{table}')"


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def _exact(row: tuple[Any, ...] | None) -> list[tuple[type, Any]] | None:
    """1, 1.0 and True are equal in Python, and not the same row."""
    return None if row is None else [(type(value), value) for value in row]


def _difference(
    there: tuple[Any, ...] | None,
    wanted: tuple[Any, ...] | None,
    counts: list[int],
    *,
    shows_values: bool,
) -> str:
    sizes = f"it has {counts[0]:,} rows, and the events give {counts[1]:,}"
    if not shows_values:
        return sizes if counts[0] != counts[1] else "its rows aren't those that the events give"
    if there is None or wanted is None:
        row = there or wanted
        return f"{sizes}: {'not ' if there is None else ''}{row!r:.{LONGEST_QUOTED}}, say"
    differ = (
        f"a row is {there!r:.{LONGEST_QUOTED}} where the events give {wanted!r:.{LONGEST_QUOTED}}"
    )
    return differ if counts[0] == counts[1] else f"{sizes}; {differ}"
