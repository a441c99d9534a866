"""The commands between files and stores: ``import`` and ``export``."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec
import typer

from everwhen import Query
from everwhen.cli.escaping import for_people
from everwhen.cli.exit_codes import BAD_DATA, NO_INPUT, USAGE, CommandStop, say
from everwhen.cli.formatting import bytes_look
from everwhen.cli.local_time import given_moment, given_place
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import (
    AfterOption,
    BranchOption,
    JsonOption,
    OverwriteOption,
    SelectionOptions,
    SkipRetiredOption,
    StoreArgument,
)
from everwhen.cli.output import Output, counted, is_terminal
from everwhen.cli.output_files import check_output
from everwhen.cli.progress_bars import shown
from everwhen.cli.store_opening import existing, made_when_written
from everwhen.exchange import (
    CloudEvents,
    Csv,
    ExportReport,
    Format,
    ImportReport,
    Xes,
    export_events,
    format_named,
    format_of,
    import_archive,
    import_events,
)
from everwhen.exchange.archive_files import is_archive
from everwhen.exchange.import_records import Future, Times
from everwhen.exchange.sources import STANDARD

_ROLES: Final = ("stream", "type", "time", "occurred_at", "event_id", "tags_json", "data_json")

_TIMES_LOOK: Final = {
    "recorded": "",
    "occurred": "; their own times are occurred_at",
    "mixed": "; {:,} of them were recorded now, and their own times are occurred_at",
}


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("import")(expanded(import_))
    app.command()(expanded(export))


FormatOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="NAME",
        help="The format: jsonl, csv, tsv or xes. [default: by the file's suffix]",
    ),
]


@dataclass(frozen=True)
class CsvOptions:
    """How a CSV file is read. No other format takes these options."""

    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=NAME",
            help="CSV: the column that holds stream, type, time, occurred_at, event_id, tags_json "
            "or data_json; 'time=' for a log without times. Repeat for several.",
        ),
    ] = None
    every_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="CSV: the type of every event.")
    ] = None
    time_format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="CSV: iso, s or ms since 1970, or a format of strptime. [default: iso]",
        ),
    ] = None
    time_zone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="CSV: the time zone of times that name none."),
    ] = None
    integer: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="CSV: a column of whole numbers. Repeat for several."),
    ] = None
    number: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="CSV: a column of numbers. Repeat for several."),
    ] = None
    boolean: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="CSV: a column of true and false. Repeat for several."),
    ] = None
    json_column: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="CSV: a column of JSON. Repeat for several."),
    ] = None
    tag_column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="CSV: a column that tags its events COLUMN:cell. Repeat for several.",
        ),
    ] = None
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="CSV: a column to leave out. Repeat for several."),
    ] = None
    delimiter: Annotated[
        str | None,
        typer.Option(
            metavar="CHARACTER",
            help="CSV: the character between cells. [default: whichever of , ; and tab is used]",
        ),
    ] = None
    decimal_comma: Annotated[
        bool, typer.Option("--decimal-comma", help="CSV: numbers are written as 1.234,5.")
    ] = False
    encoding: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="CSV: the text's encoding, such as latin-1 or utf-16."),
    ] = None

    def given(self) -> list[str]:
        """The options that are given, by name."""
        names = [field.name for field in fields(self) if getattr(self, field.name)]
        return [f"--{name.replace('_', '-')}" for name in names]

    def apply(self, chosen: Csv, category: str | None) -> Csv:
        """The format with these options."""
        return msgspec.structs.replace(
            chosen,
            category=category,
            constant_type=self.every_type,
            time_format=self.time_format or chosen.time_format,
            time_zone=self.time_zone,
            integers=tuple(self.integer or ()),
            floats=tuple(self.number or ()),
            booleans=tuple(self.boolean or ()),
            json=tuple(self.json_column or ()),
            tags=tuple(self.tag_column or ()),
            ignored=(*chosen.ignored, *(self.ignore or ())),
            delimiter=self.delimiter or chosen.delimiter,
            decimal_comma=self.decimal_comma,
            encoding=self.encoding or chosen.encoding,
            **_roles(self.column or []),
        )


@dataclass(frozen=True)
class FileOptions:
    """Which format a file has, and what of it isn't said by the file itself."""

    format_: FormatOption = None
    category: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="XES, CSV: the category of the streams."),
    ] = None
    time_: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="TIME",
            help="JSON Lines, XES: the time of events without one. [default: that of the event "
            "before, or now if no event has one]",
        ),
    ] = None

    def given(self) -> list[str]:
        """The options that are given, by name."""
        options = {"--format": self.format_, "--category": self.category, "--time": self.time_}
        return [name for name, value in options.items() if value is not None]

    def format_of(self, file: str, csv: CsvOptions) -> Format:
        """The format, with all options. Raises `CommandStop` for those that it doesn't take."""
        chosen, time = _format(file, self.format_), self.time_
        if isinstance(chosen, Csv):
            if time is not None:
                raise CommandStop("--time: not for CSV; use --column time=COLUMN", USAGE)
            return csv.apply(chosen, self.category)
        named = isinstance(chosen, CloudEvents) and self.category is not None
        given = [*(["--category"] if named else []), *csv.given()]
        if given:
            raise CommandStop(
                f"{', '.join(given)}: not for {chosen.name}, only for CSV; leave it out", USAGE
            )
        moment = None if time is None else given_moment(time)
        return Xes(self.category, moment) if isinstance(chosen, Xes) else CloudEvents(time=moment)


@dataclass(frozen=True)
class ImportOptions:
    """How a file's events come into the store."""

    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Leave invalid lines out, and count them.")
    ] = False
    times: Annotated[
        Times,
        typer.Option(
            help="What the file's own times become: recorded_at, occurred_at, or recorded_at where "
            "possible (auto).",
        ),
    ] = "auto"
    future: Annotated[
        Future,
        typer.Option(
            help="What to do with times more than 5 minutes from now that would become "
            "recorded_at: refuse them, use them as occurred_at, or use them as they are.",
        ),
    ] = "refuse"
    again: Annotated[
        bool,
        typer.Option("--again", help="Import even if many of the rows were imported before."),
    ] = False

    def given(self) -> list[str]:
        """The options that are given, by name."""
        changed = [one.name for one in fields(self) if getattr(self, one.name) != one.default]
        return [f"--{name.replace('_', '-')}" for name in changed]


def import_(
    store: StoreArgument,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="The file, - for standard input, or an archive: a folder, a URL or a .parquet "
            "file.",
        ),
    ],
    *,
    read: FileOptions,
    csv: CsvOptions,
    how: ImportOptions,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Import a file's events; the store is created if it does not exist.

    Formats are JSON Lines of CloudEvents (.jsonl), CSV (.csv) and IEEE XES (.xes), each also
    compressed (.gz). Events keep their own times as recorded_at if the store is empty, or if
    everything in it is older; otherwise these times become occurred_at. Other processes can write
    to the store meanwhile: from their first event on, the rest of the file is recorded now, and
    its own times become occurred_at. With --times recorded the import stops there instead.

    An invalid line ends the import before anything is written, unless --skip-invalid is given.
    After an interruption run the same command again: it continues, and writes nothing twice. Exit
    code 65 means that nothing in the file is valid.

    An archive is imported as it was, with its positions, into a store that is empty or has the
    beginning of it. Its URL begins with s3://, gs://, az:// or the like; credentials are taken from
    the environment.
    """
    if is_archive(file):
        _import_archive(store, file, [*read.given(), *csv.given(), *how.given()], branch, json=json)
        return
    if file != STANDARD and not Path(file).exists():
        raise CommandStop(f"{file}: there is no such file; check the path", NO_INPUT)
    chosen = read.format_of(file, csv)
    with (
        made_when_written(store, branch=branch) as opened,
        shown(f"Importing {file}") as progress,
    ):
        began = time.perf_counter()
        keywords = {field.name: getattr(how, field.name) for field in fields(how)}
        report = import_events(opened, file, chosen, progress=progress, **keywords)
        seconds = time.perf_counter() - began
    _report(Output(json=json), report, seconds)
    if report.invalid and not report.events:
        raise typer.Exit(BAD_DATA)


def _import_archive(
    store: str, archive: str, given: list[str], branch: str | None, *, json: bool
) -> None:
    if branch is not None:
        given = ["--branch", *given]
    if given:
        raise CommandStop(f"{', '.join(given)}: not for an archive; leave it out", USAGE)
    with made_when_written(store) as opened, shown(f"Importing {archive}") as progress:
        began = time.perf_counter()
        report = import_archive(opened, archive, progress=progress)
        seconds = time.perf_counter() - began
    _report(Output(json=json), report, seconds)


def _roles(columns: list[str]) -> dict[str, str | None]:
    roles: dict[str, str | None] = {}
    for column in columns:
        role, sign, name = column.partition("=")
        if not sign or role not in _ROLES:
            raise CommandStop(
                f"--column {column}: write it as ROLE=NAME; a ROLE is one of {', '.join(_ROLES)}",
                USAGE,
            )
        roles[role] = name or None
    return roles


def _format(file: str, name: str | None) -> Format:
    if name is not None:
        return format_named(name)
    if file == "-":
        raise CommandStop("-: standard input and output have no suffix; add --format", USAGE)
    return format_of(file)


def _report(out: Output, report: ImportReport, seconds: float) -> None:
    for notice in report.notices:
        say(str(notice))
    for reason in report.reasons:
        say(f"line {reason.line}: {reason.reason}")
    if more := report.invalid - len(report.reasons):
        say(f"… and {more:,} more invalid lines")
    if out.is_terminal:
        rate = f", {report.written / seconds:,.0f} events/s" if report.written else ""
        already = f", {report.repeated:,} were already there" if report.repeated else ""
        invalid = f", {report.invalid:,} invalid ones left out" if report.invalid else ""
        when = _TIMES_LOOK[report.times].format(report.late)
        out.console.print(
            f"Imported {counted(report.written, 'event')} in {seconds:.1f} s"
            f"{rate}{already}{invalid}{when}."
        )
        return
    out.fields(
        {
            "events": report.events,
            "written": report.written,
            "repeated": report.repeated,
            "invalid": report.invalid,
            "times": report.times,
            "late": report.late,
        }
    )


def _told(report: ExportReport, file: str) -> None:
    for notice in report.notices:
        say(str(notice))
    if not report.events:
        say(f"no event matches, so {'the output' if file == '-' else file} is empty")


@dataclass(frozen=True)
class WriteOptions:
    """Which format a file is written in, and how."""

    format_: FormatOption = None
    overwrite: OverwriteOption = False
    plaintext: Annotated[
        bool,
        typer.Option(
            "--plaintext",
            help="Write personal data decrypted, where no erasure can reach it; needs --vault.",
        ),
    ] = False
    guard_formulas: Annotated[
        bool | None,
        typer.Option(
            "--guard-formulas/--no-guard-formulas",
            help="CSV: put a ' before cells that a spreadsheet would execute, unless they are "
            "numbers. Import removes it again. [default: guard-formulas]",
            show_default=False,
        ),
    ] = None

    def format_of(self, file: str, categories: list[str]) -> Format:
        """The format, with all options. Raises `CommandStop` for those that it doesn't take."""
        chosen = _format(file, self.format_)
        if self.guard_formulas is not None:
            if not isinstance(chosen, Csv):
                raise CommandStop(
                    f"--guard-formulas: not for {chosen.name}, only for CSV; leave it out", USAGE
                )
            chosen = msgspec.structs.replace(chosen, guard_formulas=self.guard_formulas)
        if isinstance(chosen, Xes):
            if len(categories) > 1:
                raise CommandStop(
                    "--category: an XES log has only one category; export each to its own file",
                    USAGE,
                )
            chosen = Xes(category=categories[0] if categories else None)
        return chosen


@dataclass(frozen=True)
class RangeOptions:
    """From where to where events are exported."""

    after: AfterOption = None
    as_at: Annotated[
        str | None,
        typer.Option("--as-at", metavar="TIME", help="Only what had been recorded by then."),
    ] = None
    skip_retired: SkipRetiredOption = False

    def apply(self, query: Query) -> Query:
        """The query within these bounds."""
        if self.skip_retired:
            query = query.skipping_retired()
        if self.after is not None:
            query = query.after(self.after)
        if self.as_at is None:
            return query
        place = given_place(self.as_at)
        return query.up_to(place) if isinstance(place, int) else query.as_at(place)


def export(
    store: StoreArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file; - for standard output.")],
    *,
    write: WriteOptions,
    selection: SelectionOptions,
    bounds: RangeOptions,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Export events to a file: JSON Lines of CloudEvents, CSV or IEEE XES.

    A whole store exported as JSON Lines imports as the same store: with the same events, ids,
    versions, positions and times. The file gets its name only when it is complete.

    An XES log has the streams of one category: name it with --category, unless there is only one.
    """
    check_output(file, store)
    chosen = write.format_of(file, selection.category or [])
    query = bounds.apply(selection.query())
    with existing(store, branch=branch) as opened, shown(f"Exporting to {file}") as progress:
        selection.warn_of_unknown(opened)
        report = export_events(
            opened,
            for_people(sys.stdout) if file == "-" and is_terminal(sys.stdout) else file,
            chosen,
            query=query,
            overwrite=write.overwrite,
            plaintext=write.plaintext,
            progress=progress,
        )
    _told(report, file)
    if file == "-":
        return
    out = Output(json=json)
    if out.is_terminal:
        events = counted(report.events, "event")
        out.console.print(f"Exported {events}, {bytes_look(report.bytes)}.")
    else:
        out.fields({"events": report.events, "bytes": report.bytes})
