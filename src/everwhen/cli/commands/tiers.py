"""The commands of ``tiers``: ``status``, ``plan``, ``age`` and ``compact``."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from everwhen import Store
from everwhen.cli.durations import given_duration
from everwhen.cli.endings import ended_by
from everwhen.cli.exit_codes import INTERRUPTED, OK, USAGE, CommandStop
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import JsonOption, StoreArgument
from everwhen.cli.output import Output, counted, escaped_text
from everwhen.cli.progress_bars import TierProgress, shown
from everwhen.cli.store_opening import existing
from everwhen.cli.views import utc
from everwhen.tiers import (
    Compaction,
    HistoryManager,
    HistoryPlan,
    HistoryPolicy,
    HistoryStatus,
    Segment,
)
from everwhen.vocabulary.microseconds import from_micros

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_HELP: Final = """Show where history is, seal old history in compressed segments, compact the file.

Sealed history takes less space, stays in the same file, and is read by every command as before.
"""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    tiers = typer.Typer(help=_HELP, no_args_is_help=True)
    tiers.command()(status)
    tiers.command()(expanded(plan))
    tiers.command()(expanded(age))
    tiers.command()(compact)
    app.add_typer(tiers, name="tiers")


@dataclass(frozen=True)
class PolicyOptions:
    """What is old enough to be sealed, and how much of it is sealed together."""

    hot_duration: Annotated[
        str,
        typer.Option(
            "--hot-duration",
            metavar="DURATION",
            help="Seal what was recorded longer ago than this: 90s, 15m, 12h, 30d, 8w, or 0 for "
            "all.",
        ),
    ]
    small_segments: Annotated[
        bool,
        typer.Option("--small-segments", help="Also seal what is too little for a full segment."),
    ] = False

    def policy(self) -> HistoryPolicy:
        """The same, as a policy. Raises `CommandStop` for what isn't a duration."""
        return HistoryPolicy(
            hot_duration=given_duration(self.hot_duration, "--hot-duration"),
            small_segments=self.small_segments,
        )


def status(store: StoreArgument, *, json: JsonOption = False) -> None:
    """Show how much history is sealed, and how much is in rows.

    Cold events are sealed, hot ones are in rows. SIZE is that of the compressed slices, without
    the index of their segments. A slice is what one commit wrote to one stream.

    In a pipe, a name and a value a line: sealed (the last sealed position), head (the newest
    position), segments, slices, bytes, sealed_until (when the last sealed event was recorded),
    hot_events, last_run (when somebody last sealed what there was, or failed to), last_error (why).
    """
    out = Output(json=json)
    with existing(store) as opened:
        found = HistoryManager(opened, HistoryPolicy()).status()
        newest = opened.head().recorded_at
    if out.is_terminal:
        out.console.print(_table(found, newest))
        if found.last_error is not None and found.last_run is not None:
            out.console.print(_failed(found.last_run, found.last_error))
        return
    until = _sealed_until(found)
    out.fields(
        {
            "sealed": found.sealed,
            "head": found.head,
            "segments": len(found.segments),
            "slices": found.sealed_slices,
            "bytes": found.size,
            "sealed_until": None if until is None else utc(until),
            "hot_events": found.head - found.sealed,
            "last_run": None if found.last_run is None else utc(found.last_run),
            "last_error": found.last_error,
        }
    )


def plan(store: StoreArgument, *, policy: PolicyOptions, json: JsonOption = False) -> None:
    """Show what 'tiers age' would seal now.

    It seals whole segments of 65,536 slices from these positions, and leaves the rest in rows
    until there is more, or with --small-segments all of them.

    In a pipe, a name and a value a line: first and last (positions, null for nothing), events.
    """
    wanted, out = policy.policy(), Output(json=json)
    with existing(store) as opened:
        found = HistoryManager(opened, wanted).plan()
        why = "" if found.seal is not None else _why_nothing(opened, wanted)
    if not out.is_terminal:
        out.fields(_planned(found))
    elif found.seal is None:
        out.console.print(why)
    else:
        first, last = found.seal
        rest = "" if wanted.small_segments else ", as far as they fill segments"
        out.console.print(
            f"Positions {first:,} to {last:,} would be sealed: "
            f"{counted(found.events, 'event')}{rest}."
        )


def age(
    store: StoreArgument,
    *,
    policy: PolicyOptions,
    every: Annotated[
        str | None,
        typer.Option(
            "--every",
            metavar="DURATION",
            help="Go on, and do it again each time this has passed, until Ctrl-C or SIGTERM.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Seal old history: compress it in segments, in the store's own file.

    Others read and write meanwhile. Nothing is lost if the command is interrupted at any moment:
    the next run goes on, and deletes what was left over. The pages that rows took are used again
    by what is written next; 'tiers compact' makes the file smaller.

    This needs the library zstandard, and so does whoever reads the store from then on: pip install
    'everwhen[tiers]'. Programs other than Everwhen can't read sealed events.

    With --every it goes on whatever fails: that is shown on standard error and by 'tiers status',
    and tried again at the next turn. If several such commands are at work, one at a time seals, and
    another takes over when it is killed. One without --every seals at once; the others wait.

    In a pipe, a name and a value a line: first and last (the positions that were sealed, null for
    none), events, segments, slices, bytes. With --every, each segment's first and last position,
    slices and bytes, in a line. Exit code 0 also means that there was nothing to seal, or, with
    --every, that SIGTERM ended it; 1 that the library is missing, 75 that another process is
    sealing.
    """
    wanted, out = policy.policy(), Output(json=json)
    pause = None if every is None else given_duration(every, "--every")
    if pause is not None and not pause:
        raise CommandStop("--every: give more than 0", USAGE)
    with existing(store, write=True) as opened:
        manager = HistoryManager(opened, wanted)
        if pause is not None:
            _age_every(manager, pause, out)
        made = _aged(manager, store)
        why = "" if made or not out.is_terminal else _why_nothing(opened, wanted)
    size, slices = sum(one.size for one in made), sum(one.slices for one in made)
    done = HistoryPlan((made[0].first, made[-1].last) if made else None)
    if not out.is_terminal:
        out.fields(_planned(done) | {"segments": len(made), "slices": slices, "bytes": size})
    elif not made:
        out.console.print(why)
    else:
        from everwhen.cli.formatting import bytes_look

        out.done(
            f"positions {made[0].first:,} to {made[-1].last:,} are sealed in "
            f"{counted(len(made), 'segment')}, {bytes_look(size)}"
        )


def _age_every(manager: HistoryManager, pause: timedelta, out: Output) -> NoReturn:
    """Seal what is old enough, again and again. A signal ends it between two segments."""

    def sealed(one: Segment) -> None:
        if out.json:
            out.line(
                {"first": one.first, "last": one.last, "slices": one.slices, "bytes": one.size}
            )
        elif out.is_terminal:
            from everwhen.cli.formatting import bytes_look

            where = f"positions {one.first:,} to {one.last:,}"
            out.done(f"{where} are sealed in 1 segment, {bytes_look(one.size)}")
        else:
            out.row(*map(str, (one.first, one.last, one.slices, one.size)))
        sys.stdout.flush()

    with (
        ended_by(signal.SIGINT, signal.SIGTERM) as ending,
        manager.in_background(pause, progress=sealed),
    ):
        ending.wait()
    raise typer.Exit(INTERRUPTED if ending.by == signal.SIGINT else OK)


def compact(store: StoreArgument, *, json: JsonOption = False) -> None:
    """Make the file smaller: give back the room of rows that were sealed, or deleted.

    Nothing is deleted. Others read and write meanwhile, and nothing is lost if the command is
    interrupted at any moment. Only a file of an older Everwhen is written anew, once: nobody else
    can write meanwhile, and it takes twice the room of what is stored.

    In a pipe, a name and a value a line: before, after and freed, in bytes; before and after count
    the log of changes beside the file, too. Exit code 74 means that the disk has too little room,
    75 that others write, or read what was there before, for too long.
    """
    out = Output(json=json)
    with existing(store, write=True) as opened:
        made = _compacted(HistoryManager(opened, HistoryPolicy()), store)
    if not out.is_terminal:
        out.fields({"before": made.size_before, "after": made.size_after, "freed": made.freed})
        return
    from everwhen.cli.formatting import bytes_look

    before, after = bytes_look(made.size_before), bytes_look(made.size_after)
    out.done(f"{before} before, {after} now: {bytes_look(made.freed)} given back")


def _compacted(manager: HistoryManager, store: str) -> Compaction:
    """Compact the file, with a bar that moves with what is given back."""
    with shown(f"Compacting {store}") as tell:
        if tell is None:
            return manager.compact()

        def given_back(done: int, total: int) -> None:
            tell(TierProgress("giving room back", done, total))

        return manager.compact(given_back)


def _aged(manager: HistoryManager, store: str) -> list[Segment]:
    """Seal what is old enough, with a bar that moves with each segment."""
    with shown(f"Sealing {store}") as tell:
        if tell is None:
            return manager.age()
        planned = manager.plan()
        before = 0 if planned.seal is None else planned.seal[0] - 1

        def sealed(segment: Segment) -> None:
            tell(TierProgress("sealing", segment.last - before, planned.events))

        return manager.age(sealed)


def _planned(found: HistoryPlan) -> dict[str, object]:
    first, last = found.seal or (None, None)
    return {"first": first, "last": last, "events": found.events}


def _why_nothing(store: Store, policy: HistoryPolicy) -> str:
    """Why a policy has nothing sealed, for people."""
    all_of_it = HistoryPolicy(hot_duration=policy.hot_duration, small_segments=True)
    waiting = HistoryManager(store, all_of_it).plan().events
    if not waiting:
        return "Nothing to seal: all that is old enough is sealed."
    return (
        f"Nothing to seal yet: what is old enough ({counted(waiting, 'event')}) doesn't fill a "
        f"segment of {policy.segment_size.slices:,} slices. --small-segments seals it."
    )


def _sealed_until(found: HistoryStatus) -> datetime | None:
    return from_micros(found.segments[-1].last_time) if found.segments else None


def _failed(moment: datetime, why: str) -> Text:
    from rich.text import Text

    from everwhen.cli.formatting import stamp_look

    words = Text.assemble(("✗ ", "bold red"), "sealing failed the last time, ", stamp_look(moment))
    return escaped_text(words.append(f": {why}"))


def _table(found: HistoryStatus, newest: datetime | None) -> Table:
    from rich.table import Table
    from rich.text import Text

    from everwhen.cli import formatting

    table = Table(box=None, pad_edge=False, header_style="bold dim", padding=(0, 2, 0, 0))
    table.add_column("TIER")
    for title in ("UP TO", "EVENTS", "SEGMENTS", "SLICES", "SIZE"):
        table.add_column(title, justify="right")
    table.add_column("RECORDED UP TO", no_wrap=True)

    def add(name: str, position: int, events: int, moment: datetime | None, *cells: str) -> None:
        time = Text() if moment is None or not events else formatting.stamp_look(moment)
        table.add_row(Text(name, "bold"), f"{position:,}", f"{events:,}", *cells, time)

    segments, slices = f"{len(found.segments):,}", f"{found.sealed_slices:,}"
    size = formatting.bytes_look(found.size)
    add("cold", found.sealed, found.sealed, _sealed_until(found), segments, slices, size)
    add("hot", found.head, found.head - found.sealed, newest, "", "", "")
    return table
