"""The command that judges what is stored: ``check``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from everwhen import StorageError, Store
from everwhen.backends.locations import shown as shown_location
from everwhen.cli.exit_codes import NO, USAGE, CommandStop
from everwhen.cli.options import BranchOption, EventsOption, JsonOption, StoreArgument
from everwhen.cli.output import Output, counted
from everwhen.cli.progress_bars import shown
from everwhen.cli.store_opening import existing, path_of
from everwhen.cli.user_code import derivations, event_types
from everwhen.cli.views import ProblemView
from everwhen.errors import CorruptStoreError, MerkleLogError
from everwhen.merkle.tile_stores import CHECKPOINT, TileFolder
from everwhen.projections import check_deep
from everwhen.vocabulary import Head, Problem


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(check)


def check(
    store: StoreArgument,
    *,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="Also derive snapshots and read models again, and compare them."
        ),
    ] = False,
    of: Annotated[
        list[str] | None,
        typer.Option(
            "--of",
            metavar="MODULE:NAME",
            help="A fold or projection to derive with, or a list of them. Repeat for several.",
        ),
    ] = None,
    events: EventsOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Read and check everything that is stored.

    Runs the database's own integrity check, then compares the tables with each other: events,
    versions, times, the index, the schema, and the positions, tables, views and parked events of
    read models. If there are faults, lists them and ends with exit code 1.

    With --deep, snapshots are compared with a replay, and the rows of read models with a rebuild
    in a temporary database; --events and --of name the code that is needed. What can't be compared
    is listed, too, and is not a fault.

    The data of events is compared with nothing, unless a signed log is beside the store: then every
    commit is compared with what was signed, as 'everwhen verify' does without --key.

    Columns in a pipe: where, what. Without faults the output is empty.
    """
    if not deep and (of or events):
        raise CommandStop("--of and --events need --deep; add it", USAGE)
    began, out = time.perf_counter(), Output(json=json)
    given, types = derivations(of or ()), event_types(events)
    log: TileFolder | None = None
    try:
        with existing(store, branch=branch, events=types) as opened:
            log, head = _log_of(opened, store), opened.head()
            with shown(f"Checking {shown_location(store)}") as progress:
                problems = (
                    check_deep(opened, of=given, progress=progress) if deep else opened.check()
                )
            problems += _log_problems(opened, log)
    except CorruptStoreError as error:
        head, problems = Head(0, None), [Problem(store, str(error))]
    out.list(problems, ProblemView())
    if any(problem.is_fault for problem in problems):
        raise typer.Exit(NO)
    if out.is_terminal:
        _say_well(out, head, problems, log, time.perf_counter() - began)


def _say_well(
    out: Output, head: Head, problems: list[Problem], log: TileFolder | None, seconds: float
) -> None:
    well = "no faults" if not problems else "no faults in what could be compared"
    out.done(f"{counted(head.position, 'event')} checked in {seconds:.1f} s: {well}")
    if log is None:
        from rich.text import Text

        out.console.print(
            Text(
                "  without a signed log, an event's text that was changed by hand can't be "
                "noticed; "
                "see 'everwhen sign'",
                "dim",
            )
        )


def _log_of(opened: Store, store: str) -> TileFolder | None:
    """The log that lies beside the store, or beside its branch; None where there is none."""
    path = path_of(store)
    tiles = None if path is None else TileFolder.beside(path, opened.branch_info)
    return tiles if tiles is not None and tiles.read(CHECKPOINT) is not None else None


def _log_problems(opened: Store, tiles: TileFolder | None) -> list[Problem]:
    """In what the store isn't what was signed, by the key that the log's folder names."""
    if tiles is None:
        return []
    where = f"log {tiles.path}"
    try:
        from everwhen.merkle import MerkleLog
    except ModuleNotFoundError:
        why = "not compared: this needs the library cryptography; pip install 'everwhen[trust]'"
        return [Problem(where, why, is_fault=False)]
    try:
        fault = MerkleLog(opened, tiles).verify().fault
    except (MerkleLogError, StorageError) as error:
        return [Problem(where, str(error))]
    if fault is None:
        return []
    place = where if fault.position is None else f"position {fault.position}"
    return [Problem(place, f"{fault.kind}, by the log beside the store: {fault.what}")]
