"""What of the records that runners keep in a store can't be so, by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from everwhen.backends.engine import EngineView
from everwhen.store.projection_records import (
    PARKED,
    REACTIONS,
    RECORDS,
    Build,
    build_of,
    parked_of,
    record_of,
)
from everwhen.vocabulary.contract import Checkpoint, Problem
from everwhen.vocabulary.errors import StorageError
from everwhen.vocabulary.query import Query

QUOTED_CHARACTERS: Final = 120
"""Enough of a row or statement to recognise it in a line of a report."""


def build_name(build: Build) -> str:
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
    where = build_name(build)
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
    where = build_name(build)
    named = {*tables, *map(build.table, tables)}
    objects = {one.name: one for one in view.dialect.objects(view, named)}
    for table in tables:
        if build.table(table) not in objects:
            yield Problem(where, f"its table {build.table(table)!r} is missing; rebuild it")
        if not is_live:
            continue
        shown = objects.get(table)
        if shown is None or shown.kind != "view":
            yield Problem(where, f"the view {table!r} that shows its rows is missing; rebuild it")
        elif not view.dialect.is_shown_by(view, shown, build.table(table)):
            why = f"the view {table!r} shows something else than its rows"
            yield Problem(where, f"{why}, but: {shown.sql:.{QUOTED_CHARACTERS}}; rebuild it")


def _stray(view: EngineView, builds: set[Build]) -> Iterator[Problem]:
    """Parked events of what there isn't."""
    known = tuple(build.parked for build in builds)
    for checkpoint in view.checkpoints(PARKED):
        if not checkpoint.name.startswith(known):
            why = "is a parked event of a projection that isn't there; delete it"
            yield _checkpoint(checkpoint, why)


def _checkpoint(checkpoint: Checkpoint, why: str) -> Problem:
    return Problem(f"checkpoint {checkpoint.name!r}", f"it {why}")
