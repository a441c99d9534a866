"""The commands between files and stores: ``import`` and ``export``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import typer

from everwhen.cli.escaping import for_people
from everwhen.cli.exits import BAD_DATA, NO_INPUT, USAGE, CommandStop, say
from everwhen.cli.formatting import bytes_look
from everwhen.cli.known import warn_of_unknown
from everwhen.cli.local_time import given_moment, given_place
from everwhen.cli.opening import existing, made_when_written
from everwhen.cli.options import (
    AfterOption,
    BranchOption,
    CategoryOption,
    JsonOption,
    OutputFileArgument,
    OverwriteOption,
    StoreArgument,
    StreamOption,
    TagOption,
    TypeOption,
)
from everwhen.cli.outputs import check_output
from everwhen.cli.progress import shown
from everwhen.cli.reading import filtered
from everwhen.cli.terminal import Output, counted, is_terminal
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
    import_events,
)
from everwhen.exchange.attempts import Future, Times
from everwhen.exchange.sources import STANDARD

_ROLES: Final = ("stream", "type", "time", "occurred_at", "event_id", "tags_json", "data_json")

_TIMES_LOOK: Final = {
    "recorded": "",
    "occurred": "; their own times are occurred_at",
    "mixed": "; {:,} of them were recorded now, and their own times are occurred_at",
}


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("import")(import_)
    app.command()(export)


FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", "-f", metavar="NAME", help="The format: jsonl, csv, tsv or xes; else by suffix."
    ),
]


FileArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="FILE", help="The file; - for standard input.")
]
ImportCategoryOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="XES, CSV: the category of the log's streams."),
]
TimeOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--time",
        metavar="TIME",
        help="JSON Lines, XES: the time of events without one; else they get that of the one "
        "before, or now if no event has one.",
    ),
]
SkipInvalidOption: TypeAlias = Annotated[
    bool, typer.Option("--skip-invalid", help="Leave invalid lines out, and count them.")
]
ColumnOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ROLE=NAME",
        help="CSV: the column that holds stream, type, time, occurred_at, event_id, tags_json "
        "or data_json; 'time=' for a log without times. Repeat for several.",
    ),
]
EveryTypeOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TYPE", help="CSV: the type of every event.")
]
TimeFormatOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="CSV: how times are written: iso, s or ms since 1970, or a strptime format; else iso.",
    ),
]
TimeZoneOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ZONE", help="CSV: the time zone of times without one.")
]
IntegerOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="CSV: a column of whole numbers. Repeat for several."),
]
NumberOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="CSV: a column of numbers. Repeat for several."),
]
BooleanOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="CSV: a column of true and false. Repeat for several."),
]
JsonColumnOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="CSV: a column of JSON. Repeat for several."),
]
TagColumnOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="CSV: a column whose cells are tags, as COLUMN:cell. Repeat for several.",
    ),
]
IgnoreOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="CSV: a column to leave out. Repeat for several."),
]
DelimiterOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="CHARACTER",
        help="CSV: the character between cells; else detected among , ; and tab.",
    ),
]
DecimalCommaOption: TypeAlias = Annotated[
    bool, typer.Option("--decimal-comma", help="CSV: numbers are written as 1.234,5.")
]
EncodingOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="CSV: the text's encoding, such as latin-1 or utf-16."),
]
TimesOption: TypeAlias = Annotated[
    Times,
    typer.Option(
        help="What the log's own times become: recorded_at, occurred_at, or the first where "
        "it is possible.",
    ),
]
FutureOption: TypeAlias = Annotated[
    Future,
    typer.Option(
        help="Times more than 5 minutes from now that would be recorded_at: refuse them, take "
        "them as occurred_at, or as they are.",
    ),
]
AgainOption: TypeAlias = Annotated[
    bool,
    typer.Option("--again", help="Import even if many of the rows were imported before."),
]


def import_(
    store: StoreArgument,
    file: FileArgument,
    *,
    format_: FormatOption = None,
    category: ImportCategoryOption = None,
    time_: TimeOption = None,
    skip_invalid: SkipInvalidOption = False,
    column: ColumnOption = None,
    every_type: EveryTypeOption = None,
    time_format: TimeFormatOption = None,
    time_zone: TimeZoneOption = None,
    integer: IntegerOption = None,
    number: NumberOption = None,
    boolean: BooleanOption = None,
    json_column: JsonColumnOption = None,
    tag_column: TagColumnOption = None,
    ignore: IgnoreOption = None,
    delimiter: DelimiterOption = None,
    decimal_comma: DecimalCommaOption = False,
    encoding: EncodingOption = None,
    times: TimesOption = "auto",
    future: FutureOption = "refuse",
    again: AgainOption = False,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Import a file's events; the store is created where there is none.

    Formats are JSON Lines of CloudEvents (.jsonl), CSV (.csv) and IEEE XES (.xes), each also
    compressed (.gz). A log keeps its own times where the store is empty or older than the log;
    else they become the events' occurred_at. Others may write to the store meanwhile: from their
    first event on, what is left is recorded now, and its own times become occurred_at. With
    --times recorded the import ends there instead.

    An invalid line ends the import before anything is written, unless --skip-invalid. After an
    interruption run the same command again: it goes on, and writes nothing twice. Ends with exit
    code 65 where nothing in the file is valid.
    """
    if file != STANDARD and not Path(file).exists():
        raise CommandStop(f"{file}: there is no such file; check the path", NO_INPUT)
    chosen = _format(file, format_)
    of_csv: dict[str, Any] = {
        "column": column,
        "every_type": every_type,
        "time_format": time_format,
        "time_zone": time_zone,
        "integer": integer,
        "number": number,
        "boolean": boolean,
        "json_column": json_column,
        "tag_column": tag_column,
        "ignore": ignore,
        "delimiter": delimiter,
        "decimal_comma": decimal_comma,
        "encoding": encoding,
    }
    chosen = _chosen(chosen, category, time_, of_csv)
    report, seconds = _imported(
        (store, branch),
        file,
        chosen,
        skip_invalid=skip_invalid,
        times=times,
        future=future,
        again=again,
    )
    _report(Output(json=json), report, seconds)
    if report.invalid and not report.events:
        raise typer.Exit(BAD_DATA)


def _imported(
    into: tuple[str, str | None], file: str, chosen: Format, **options: Any
) -> tuple[ImportReport, float]:
    """What was imported into a store, or a branch of it, and in how many seconds."""
    store, branch = into
    with (
        made_when_written(store, branch=branch) as opened,
        shown(f"Importing {file}") as progress,
    ):
        began = time.perf_counter()
        report = import_events(opened, file, chosen, progress=progress, **options)
        return report, time.perf_counter() - began


def _chosen(
    chosen: Format, category: str | None, time_: str | None, of_csv: dict[str, Any]
) -> Format:
    """The format, as the options want it; ``of_csv`` are those that only CSV has, by name."""
    if isinstance(chosen, Csv):
        if time_ is not None:
            raise CommandStop("--time is for JSON Lines and XES; CSV: --column time=COLUMN", USAGE)
        return _csv(chosen, category, **of_csv)
    if isinstance(chosen, Xes) and category is not None:
        chosen = Xes(category=category)
    beside = {"category": category if isinstance(chosen, CloudEvents) else None, **of_csv}
    _refuse_csv_only(
        chosen.name, {f"--{name.replace('_', '-')}": value for name, value in beside.items()}
    )
    if time_ is not None:
        if not isinstance(chosen, CloudEvents | Xes):
            raise CommandStop("--time is for JSON Lines and XES; CSV: --column time=COLUMN", USAGE)
        chosen = msgspec.structs.replace(chosen, time=given_moment(time_))
    return chosen


def _csv(chosen: Csv, category: str | None, **given: Any) -> Csv:
    return msgspec.structs.replace(
        chosen,
        category=category,
        constant_type=given["every_type"],
        time_format=given["time_format"] or chosen.time_format,
        time_zone=given["time_zone"],
        integers=tuple(given["integer"] or ()),
        floats=tuple(given["number"] or ()),
        booleans=tuple(given["boolean"] or ()),
        json=tuple(given["json_column"] or ()),
        tags=tuple(given["tag_column"] or ()),
        ignored=(*chosen.ignored, *(given["ignore"] or ())),
        delimiter=given["delimiter"] or chosen.delimiter,
        decimal_comma=given["decimal_comma"],
        encoding=given["encoding"] or chosen.encoding,
        **_roles(given["column"] or []),
    )


def _refuse_csv_only(name: str, options: dict[str, object]) -> None:
    given = [option for option, value in options.items() if value]
    if given:
        raise CommandStop(f"{', '.join(given)}: not for {name}, only for CSV; leave it out", USAGE)


def _roles(columns: list[str]) -> dict[str, str | None]:
    roles: dict[str, str | None] = {}
    for column in columns:
        role, sign, name = column.partition("=")
        if not sign or role not in _ROLES:
            raise CommandStop(
                f"--column {column}: write it as ROLE=NAME, with a role of {', '.join(_ROLES)}",
                USAGE,
            )
        roles[role] = name or None
    return roles


def _format(file: str, name: str | None) -> Format:
    if name is not None:
        return format_named(name)
    if file == "-":
        raise CommandStop("standard input and output have no suffix; add --format", USAGE)
    return format_of(file)


def _report(out: Output, report: ImportReport, seconds: float) -> None:
    for notice in report.notices:
        say(str(notice))
    for reason in report.reasons:
        say(f"line {reason.line}: {reason.reason}")
    if more := report.invalid - len(report.reasons):
        say(f"… {more:,} more are invalid")
    if out.is_terminal:
        rate = f", {report.written / seconds:,.0f} events/s" if report.written else ""
        already = f", {report.repeated:,} were there already" if report.repeated else ""
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
        say(f"no event matches, so {'the output' if file == '-' else file} has none")


AsAtOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--as-at", metavar="TIME", help="Only events recorded up to then."),
]
PlaintextOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--plaintext",
        help="Write personal data in plain text, which no erasure reaches; needs --vault.",
    ),
]
GuardFormulasOption: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--guard-formulas/--no-guard-formulas",
        help="CSV: put a ' before cells that a spreadsheet would execute, unless they are "
        "numbers. Import removes it. [default: guard-formulas]",
        show_default=False,
    ),
]


def export(
    store: StoreArgument,
    file: OutputFileArgument,
    *,
    format_: FormatOption = None,
    stream: StreamOption = None,
    category: CategoryOption = None,
    type_: TypeOption = None,
    tag: TagOption = None,
    after: AfterOption = None,
    as_at: AsAtOption = None,
    overwrite: OverwriteOption = False,
    plaintext: PlaintextOption = False,
    guard_formulas: GuardFormulasOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Export events into a file: JSON Lines of CloudEvents, CSV or IEEE XES.

    JSON Lines of a whole store import as the very same store: events, ids, versions, positions
    and times. The file appears under its name only when it is complete.

    An XES log has the streams of one category: name it with --category, unless there is only one.
    """
    check_output(file, store)
    chosen = _format(file, format_)
    if guard_formulas is not None:
        if not isinstance(chosen, Csv):
            raise CommandStop(
                f"--guard-formulas is for CSV, not for {chosen.name}; leave it out", USAGE
            )
        chosen = msgspec.structs.replace(chosen, guard_formulas=guard_formulas)
    query = filtered(stream, category, type_, tag)
    if after is not None:
        query = query.after(after)
    if as_at is not None:
        place = given_place(as_at)
        query = query.up_to(place) if isinstance(place, int) else query.as_at(place)
    if isinstance(chosen, Xes):
        if category is not None and len(category) > 1:
            raise CommandStop(
                "an XES log has one category; export each into a file of its own", USAGE
            )
        chosen = Xes(category=category[0] if category else None)
    with existing(store, branch=branch) as opened, shown(f"Exporting to {file}") as progress:
        warn_of_unknown(opened, streams=stream, categories=category, types=type_, tags=tag)
        report = export_events(
            opened,
            for_people(sys.stdout) if file == "-" and is_terminal(sys.stdout) else file,
            chosen,
            query=query,
            overwrite=overwrite,
            plaintext=plaintext,
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
