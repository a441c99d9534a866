"""The commands of ``tiers``: what is where, and how it moves."""

from __future__ import annotations

import itertools
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, TypeAlias

import typer

from everwhen import Store
from everwhen.backends.locations import shown as shown_location
from everwhen.cli.durations import given_duration
from everwhen.cli.endings import ended_by
from everwhen.cli.exit_codes import INTERRUPTED, OK, USAGE, CommandStop
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import JsonOption, StoreArgument
from everwhen.cli.output import Output, counted, escaped_text
from everwhen.cli.progress_bars import TierProgress, shown
from everwhen.cli.store_opening import existing
from everwhen.errors import DeclarationError
from everwhen.exchange.json_forms import utc_text
from everwhen.tiers import (
    Compaction,
    HistoryManager,
    HistoryPlan,
    HistoryPolicy,
    HistoryStatus,
    MovedSegment,
    Segment,
)
from everwhen.tiers.history_policy import mergeable
from everwhen.vocabulary.microseconds import from_micros

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_HELP: Final = """Show where history is, and move old history out of the way.

Old history is sealed in compressed segments, in the same file; archived in Parquet files, in a
folder or a cloud's object storage; and retired: given up. What isn't retired is read by every
command as before.
"""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    tiers = typer.Typer(help=_HELP, no_args_is_help=True)
    tiers.command()(status)
    tiers.command()(expanded(plan))
    tiers.command()(expanded(age))
    tiers.command()(restore)
    tiers.command()(merge)
    tiers.command()(compact)
    app.add_typer(tiers, name="tiers")


ArchiveOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--archive",
        metavar="PLACE",
        help="The archive: a folder, or a URL such as s3://bucket/shop.",
    ),
]


@dataclass(frozen=True)
class PolicyOptions:
    """What is old enough to be moved, and where to."""

    hot_duration: Annotated[
        str | None,
        typer.Option(
            "--hot-duration",
            metavar="DURATION",
            help="Seal what was recorded longer ago than this: 90s, 15m, 12h, 30d, 8w, or 0 for "
            "all.",
        ),
    ] = None
    archive_after: Annotated[
        str | None,
        typer.Option(
            "--archive-after",
            metavar="DURATION",
            help="Archive what was sealed, and was recorded longer ago than this.",
        ),
    ] = None
    archive: ArchiveOption = None
    warm_duration: Annotated[
        str | None,
        typer.Option(
            "--warm-duration",
            metavar="DURATION",
            help="Keep what was archived in the file as well, for that much longer.",
        ),
    ] = None
    delete_after: Annotated[
        str | None,
        typer.Option(
            "--delete-after",
            metavar="DURATION",
            help="Retire what was sealed, and was recorded longer ago than this: it is given up.",
        ),
    ] = None
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep",
            metavar="NAME=DURATION",
            help="In place of --delete-after for a category. Audit entries are kept for ever "
            "without it. Repeat for several.",
        ),
    ] = None
    unused_duration: Annotated[
        str,
        typer.Option(
            "--unused-duration",
            metavar="DURATION",
            help="Delete files of the archive that long after they were last used. Give more than "
            "you keep backups of the store for.",
        ),
    ] = "1d"
    category: Annotated[
        list[str] | None,
        typer.Option(
            "--category",
            metavar="NAME=DURATION",
            help="In place of --hot-duration for a category. Repeat for several.",
        ),
    ] = None
    small_segments: Annotated[
        bool,
        typer.Option("--small-segments", help="Also seal what is too little for a full segment."),
    ] = False

    def policy(self) -> HistoryPolicy:
        """The same, as a policy. Raises `CommandStop` for what makes none."""
        durations = {
            name: given_duration(text, f"--{name.replace('_', '-')}")
            for name in ("hot_duration", "archive_after", "warm_duration", "delete_after")
            if (text := getattr(self, name)) is not None
        }
        if durations.get("archive_after") is not None and self.archive is None:
            raise CommandStop("--archive-after needs --archive: a folder or a URL", USAGE)
        hot, kept = _by_category(self.category, "--category"), _by_category(self.keep, "--keep")
        try:
            found = HistoryPolicy(
                **durations,
                unused_duration=given_duration(self.unused_duration, "--unused-duration"),
                small_segments=self.small_segments,
                per_category={
                    name: HistoryPolicy(hot_duration=hot.get(name), delete_after=kept.get(name))
                    for name in {**hot, **kept}
                },
            )
        except DeclarationError as error:
            raise CommandStop(f"--category and --keep: {error}", USAGE) from error
        if found.moves_nothing:
            raise CommandStop(
                "nothing would move; give --hot-duration, --archive-after or --delete-after", USAGE
            )
        return found

    def manager(self, store: Store) -> HistoryManager:
        """Whoever moves the history of a store as these say."""
        return HistoryManager(store, self.policy(), archive=self.archive)


def _by_category(given: Sequence[str] | None, option: str) -> dict[str, timedelta]:
    """The durations that an option gives to categories."""
    found: dict[str, timedelta] = {}
    for text in given or ():
        name, _, duration = text.rpartition("=")
        if not name:
            raise CommandStop(
                f"{option}: {text!r}; write it as NAME=DURATION, audit=52w say", USAGE
            )
        found[name] = given_duration(duration, f"{option} {text}")
    return found


def status(store: StoreArgument, *, json: JsonOption = False) -> None:
    """Show where history is: how much of it is hot, cold, in the archive, and retired.

    Hot events are in rows, cold ones are sealed in the same file, archived ones are in files
    elsewhere, retired ones were given up. SIZE is that of the compressed slices, without the index
    of their segments. A slice is what one commit wrote to one stream.

    In a pipe, a name and a value a line: sealed (the last sealed position), head (the newest
    position), segments, slices, bytes, sealed_until (when the last sealed event was recorded),
    hot_events, last_run (when somebody last moved what there was, or failed to), last_error (why),
    archived (segments in the archive), archive_bytes, retired (the last retired position, or 0).
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
            "sealed_until": None if until is None else utc_text(until),
            "hot_events": found.head - found.sealed,
            "last_run": None if found.last_run is None else utc_text(found.last_run),
            "last_error": found.last_error,
            "archived": len(found.archived),
            "archive_bytes": found.archive_size,
            "retired": found.retired,
        }
    )


def plan(store: StoreArgument, *, policy: PolicyOptions, json: JsonOption = False) -> None:
    """Show what 'tiers age' would move now.

    It seals whole segments of 65,536 slices from these positions, and leaves the rest in rows
    until there is more, or with --small-segments all of them. What a category keeps from being
    moved is shown as well.

    In a pipe, a name and a value a line: first and last (positions to be sealed, null for nothing),
    events; archive and evict (how many segments would be copied to the archive, and deleted here
    since they are there), retire (the position up to which history would be given up, 0 for none),
    lost (how many streams would lose their state by that); held_back_by (the category that keeps
    events from being sealed, null for none) and held_back_at (its first such event's position).
    """
    wanted, out = policy.policy(), Output(json=json)
    with existing(store) as opened:
        found = policy.manager(opened).plan()
        why = "" if _moves(found) else _why_nothing(opened, wanted)
    if not out.is_terminal:
        retire = found.retire
        seal = next((one for one in found.held if one.move == "seal"), None)
        out.fields(
            _planned(found)
            | {
                "archive": len(found.archive),
                "evict": len(found.evict),
                "retire": 0 if retire is None else retire.last,
                "lost": 0 if retire is None else len(retire.lost),
                "held_back_by": None if seal is None else seal.category,
                "held_back_at": None if seal is None else seal.position,
            }
        )
        return
    for line in (*_plan_lines(found, wanted), why):
        if line:
            out.console.print(line)


def _moves(found: HistoryPlan) -> bool:
    return bool(found.seal or found.archive or found.evict or found.retire)


def _plan_lines(found: HistoryPlan, policy: HistoryPolicy) -> Iterator[str]:
    """What a plan says, for people."""
    if found.seal is not None:
        first, last = found.seal
        rest = "" if policy.small_segments else ", as far as they fill segments"
        yield (
            f"Positions {first:,} to {last:,} would be sealed: "
            f"{counted(found.events, 'event')}{rest}."
        )
    if found.retire is not None:
        first, last = found.retire.first, found.retire.last
        yield (
            f"Positions {first:,} to {last:,} would be retired: "
            f"{counted(found.retire.events, 'event')} given up for good."
        )
        if found.retire.lost:
            streams = counted(len(found.retire.lost), "stream")
            yield f"{streams} would lose their state by that: --allow-loss says that they may."
    for ranges, what in ((found.archive, "archived"), (found.evict, "deleted from the file")):
        if ranges:
            segments = counted(len(ranges), "segment")
            first, last = ranges[0][0], ranges[-1][1]
            yield f"Positions {first:,} to {last:,} would be {what}: {segments}."
    for held in found.held:
        done = {"seal": "sealed", "archive": "archived", "retire": "retired"}[held.move]
        yield (
            f"What comes from position {held.position:,} on isn't {done} as yet: category "
            f"{held.category!r} is kept for longer."
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
    allow_loss: Annotated[
        bool,
        typer.Option(
            "--allow-loss",
            help="Retire history even if streams lose their state, or branches their beginning.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Move old history: seal it in the store's own file, archive it, retire it.

    Others read and write meanwhile. Nothing is lost if the command is interrupted at any moment:
    the next run goes on, and deletes what was left over. The pages that rows took are used again
    by what is written next; 'tiers compact' makes the file smaller.

    This needs the library zstandard, and so does whoever reads the store from then on: pip install
    'everwhen[tiers]'. Programs other than Everwhen can't read sealed events.

    Sealed history is archived as Parquet files that any tool reads; that needs everwhen[archive],
    and who reads archived events needs the archive. An upload is compared before anything is
    deleted here. Retiring is recorded in the store, and is refused where streams would lose their
    state, since no snapshot holds it.

    With --every it goes on whatever fails: that is shown on standard error and by 'tiers status',
    and tried again at the next turn. If several such commands are at work, one at a time moves, and
    another takes over when it is killed. One without --every moves at once; the others wait.

    In a pipe, a name and a value a line: first and last (the positions that were sealed, null for
    none), events, segments, slices, bytes; archived and evicted (segments), retired (the position
    up to which history was retired, 0 for none). With --every, what was done to each segment, its
    first and last position, slices and bytes, in a line. Exit code 0 also means that there was
    nothing to move, or, with --every, that SIGTERM ended it; 1 that a library is missing, or that
    something would be lost, 75 that another process is moving history.
    """
    wanted, out = policy.policy(), Output(json=json)
    pause = None if every is None else given_duration(every, "--every")
    if pause is not None and not pause:
        raise CommandStop("--every: give more than 0", USAGE)
    with existing(store, write=True) as opened:
        manager = policy.manager(opened)
        if pause is not None:
            _age_every(manager, pause, out)
        moved = _aged(manager, store, allow_loss=allow_loss)
        why = "" if moved or not out.is_terminal else _why_nothing(opened, wanted)
    if not out.is_terminal:
        out.fields(_done(moved))
    elif not moved:
        out.console.print(why)
    else:
        _say_moved(moved, out)


def _done(moved: Sequence[MovedSegment]) -> dict[str, object]:
    """What was moved, for a pipe."""
    made = [one.segment for one in moved if one.how == "sealed"]
    retired = [one.segment.last for one in moved if one.how == "retired"]
    return _planned(HistoryPlan((made[0].first, made[-1].last) if made else None)) | {
        "segments": len(made),
        "slices": sum(one.slices for one in made),
        "bytes": sum(one.size for one in made),
        "archived": sum(one.how == "archived" for one in moved),
        "evicted": sum(one.how == "evicted" for one in moved),
        "retired": max(retired, default=0),
    }


def _say_moved(moved: Sequence[MovedSegment], out: Output) -> None:
    """A line for each kind of move."""
    from everwhen.cli.formatting import bytes_look

    for how, segments in _by_kind(moved).items():
        first, last = segments[0].first, segments[-1].last
        where, number = f"positions {first:,} to {last:,}", counted(len(segments), "segment")
        match how:
            case "sealed":
                size = bytes_look(sum(one.size for one in segments))
                out.done(f"{where} are sealed in {number}, {size}")
            case "archived" | "merged":
                size = bytes_look(sum(one.size for one in {one.object for one in segments} if one))
                out.done(f"{where} are in the archive: {number}, {size}")
            case "evicted":
                out.done(f"{where} are deleted from the file, and read from the archive")
            case "restored":
                out.done(f"{where} are in the file again: {number}")
            case "retired":
                out.done(f"everything up to position {last:,} is retired")


def _by_kind(moved: Sequence[MovedSegment]) -> dict[str, list[Segment]]:
    found: dict[str, list[Segment]] = {}
    for one in moved:
        found.setdefault(one.how, []).append(one.segment)
    return found


def _age_every(manager: HistoryManager, pause: timedelta, out: Output) -> NoReturn:
    """Move what is old enough, again and again. A signal ends it between two segments."""

    def tell(moved: MovedSegment) -> None:
        one = moved.segment
        if out.json:
            place = {"first": one.first, "last": one.last}
            out.line({"how": moved.how} | place | {"slices": one.slices, "bytes": one.size})
        elif out.is_terminal:
            _say_moved([moved], out)
        else:
            out.row(moved.how, *map(str, (one.first, one.last, one.slices, one.size)))
        sys.stdout.flush()

    with (
        ended_by(signal.SIGINT, signal.SIGTERM) as ending,
        manager.in_background(pause, progress=tell),
    ):
        ending.wait()
    raise typer.Exit(INTERRUPTED if ending.by == signal.SIGINT else OK)


def restore(
    store: StoreArgument,
    *,
    first: Annotated[
        int, typer.Option("--from", metavar="POSITION", help="The first position.", min=1)
    ] = 1,
    last: Annotated[
        int | None, typer.Option("--to", metavar="POSITION", help="The last position.", min=1)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Bring archived history back into the store's file: all of it, or the segments of a range.

    Others read and write meanwhile, and nothing is lost if the command is interrupted at any
    moment. The files of the archive are no longer used; 'tiers age' deletes them later.

    In a pipe, a name and a value a line: first and last (the positions of what was brought back,
    null for none), segments.
    """
    out = Output(json=json)
    with existing(store, write=True) as opened:
        manager = HistoryManager(opened, HistoryPolicy())
        found = [one for one in manager.status().archived if one.last >= first]
        with shown(f"Restoring {shown_location(store)}") as tell:
            moved = manager.restore(first, last, _told(tell, "restoring", len(found)))
    _ended(out, moved, "Nothing to restore: nothing there is archived.")


def merge(
    store: StoreArgument,
    *,
    archive: Annotated[
        str,
        typer.Option("--archive", metavar="PLACE", help="Where the larger files go."),
    ],
    size: Annotated[
        int,
        typer.Option("--size", metavar="BYTES", help="How large a file gets at most.", min=1),
    ] = 64 << 20,
    json: JsonOption = False,
) -> None:
    """Put small files of the archive that follow on one another into larger ones.

    Others read meanwhile, and nothing is lost if the command is interrupted at any moment. The
    small files are no longer used; 'tiers age' deletes them later.

    In a pipe, a name and a value a line: first and last (positions of the last segments of the new
    files, null for none), segments (of these).
    """
    out = Output(json=json)
    with existing(store, write=True) as opened:
        manager = HistoryManager(opened, HistoryPolicy(), archive=archive)
        total = len(mergeable(manager.status().segments, size))
        with shown(f"Merging the archive of {shown_location(store)}") as tell:
            moved = manager.merge(size, _told(tell, "merging", total))
    _ended(out, moved, "Nothing to merge: no two small files follow on one another.")


def _told(
    tell: Callable[[TierProgress], None] | None, stage: str, total: int
) -> Callable[[MovedSegment], None] | None:
    """What moves a bar with each move, of which there are ``total``."""
    if tell is None:
        return None
    numbers = itertools.count(1)
    return lambda _: tell(TierProgress(stage, next(numbers), total))


def _ended(out: Output, moved: Sequence[MovedSegment], nothing: str) -> None:
    if not out.is_terminal:
        first, last = (moved[0].segment.first, moved[-1].segment.last) if moved else (None, None)
        out.fields({"first": first, "last": last, "segments": len(moved)})
    elif not moved:
        out.console.print(nothing)
    else:
        _say_moved(moved, out)


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
    with shown(f"Compacting {shown_location(store)}") as tell:
        if tell is None:
            return manager.compact()

        def given_back(done: int, total: int) -> None:
            tell(TierProgress("giving room back", done, total))

        return manager.compact(given_back)


def _aged(manager: HistoryManager, store: str, *, allow_loss: bool) -> list[MovedSegment]:
    """Move what is old enough, with a bar that moves with each segment."""
    with shown(f"Moving history of {shown_location(store)}") as tell:
        if tell is None:
            return manager.age(allow_loss=allow_loss)
        planned = manager.plan()
        before = 0 if planned.seal is None else planned.seal[0] - 1
        totals = {"archived": len(planned.archive), "evicted": len(planned.evict)}
        numbers = Counter[str]()

        def moved(one: MovedSegment) -> None:
            numbers[one.how] += 1
            if one.how == "sealed":
                tell(TierProgress("sealing", one.segment.last - before, planned.events))
            elif one.how in totals:
                stage = "archiving" if one.how == "archived" else "deleting what is archived"
                total = max(totals[one.how], numbers[one.how])
                tell(TierProgress(stage, numbers[one.how], total))

        return manager.age(moved, allow_loss=allow_loss)


def _planned(found: HistoryPlan) -> dict[str, object]:
    first, last = found.seal or (None, None)
    return {"first": first, "last": last, "events": found.events}


def _why_nothing(store: Store, policy: HistoryPolicy) -> str:
    """Why a policy has nothing moved, for people."""
    all_of_it = HistoryPolicy(
        hot_duration=policy.sealed_after, small_segments=True, per_category=policy.per_category
    )
    waiting = HistoryManager(store, all_of_it).plan().events
    if not waiting:
        return "Nothing to move: all that is old enough is where it should be."
    return (
        f"Nothing to move yet: what is old enough ({counted(waiting, 'event')}) doesn't fill a "
        f"segment of {policy.segment_size.slices:,} slices. --small-segments seals it."
    )


def _sealed_until(found: HistoryStatus) -> datetime | None:
    return from_micros(found.segments[-1].last_time) if found.segments else None


def _failed(moment: datetime, why: str) -> Text:
    from rich.text import Text

    from everwhen.cli.formatting import stamp_look

    words = Text.assemble(
        ("✗ ", "bold red"), "moving history failed the last time, ", stamp_look(moment)
    )
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

    def tier(name: str, segments: Sequence[Segment], size: int | None) -> None:
        if not segments and name != "cold":
            return
        events = sum(one.last - one.first + 1 for one in segments)
        slices = sum(one.slices for one in segments)
        shown_size = "" if size is None else formatting.bytes_look(size)
        until = from_micros(segments[-1].last_time) if segments else None
        cells = (f"{len(segments):,}", f"{slices:,}", shown_size)
        add(name, segments[-1].last if segments else 0, events, until, *cells)

    tier("retired", [one for one in found.segments if one.retired_at is not None], None)
    tier("archive", found.archived, found.archive_size)
    tier("cold", [one for one in found.segments if one.is_cold], found.size)
    add("hot", found.head, found.head - found.sealed, newest, "", "", "")
    return table
