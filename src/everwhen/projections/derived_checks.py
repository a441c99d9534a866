"""What is derived from the events and kept beside them: what of it can't be so.

Read models and their positions are checked against the schema and the newest position, and, where
their code is at hand, against what that makes of the events again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from everwhen.backends.sql_dialect import SqlView
from everwhen.projections.projections import TableProjection
from everwhen.store.projection_records import Build
from everwhen.store.record_checks import QUOTED_CHARACTERS, build_name
from everwhen.vocabulary.contract import Problem


def schema_problems(
    stored: SqlView, rebuilt: SqlView, build: Build, projection: TableProjection
) -> Iterator[Problem]:
    """In what a build's tables, and what is on them, aren't what the projection declares.

    An index or table more is somebody's own; a trigger more may have changed rows.
    """
    where, names = build_name(build), set(map(build.table, projection.tables))
    found = {one.name: one for one in stored.dialect.objects(stored, names)}
    declared = {one.name: one for one in rebuilt.dialect.objects(rebuilt, names)}
    for name, wanted in declared.items():
        there = found.get(name)
        if there is None:
            yield Problem(where, f"the {wanted.kind} {name!r} is missing; rebuild it")
        elif there != wanted:
            why = f"the {there.kind} {name!r} isn't as it is declared"
            yield Problem(where, f"{why}, but: {there.sql:.{QUOTED_CHARACTERS}}; rebuild it")
    for name, one in found.items():
        if one.kind == "trigger" and name not in declared:
            yield Problem(where, f"the trigger {name!r} is not one that it declares; rebuild it")


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
    where = build_name(build)
    for table in projection.tables:
        name = build.table(table)
        if _columns(stored, name) != _columns(rebuilt, name):
            continue  # the schema has been found fault with
        rows = [view.dialect.rows_in_order(view, name) for view in (stored, rebuilt)]
        for there, wanted in zip_longest(*rows):
            if _exact(there) != _exact(wanted):
                counts = [
                    next(view.rows(f"SELECT count(*) FROM {name}"))[0] for view in (stored, rebuilt)
                ]
                what = _difference(there, wanted, counts, shows_values=shows_values)
                yield Problem(where, f"table {table!r}: {what}; {hint}")
                break


def _columns(view: SqlView, table: str) -> list[str]:
    return [name for name, _ in view.dialect.columns(view, table)]


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
        return f"{sizes}: {'not ' if there is None else ''}{row!r:.{QUOTED_CHARACTERS}}, say"
    differ = (
        f"a row is {there!r:.{QUOTED_CHARACTERS}} where the events give "
        f"{wanted!r:.{QUOTED_CHARACTERS}}"
    )
    return differ if counts[0] == counts[1] else f"{sizes}; {differ}"
