"""The command that looks a store over: ``info``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from everwhen import Query, RecordedEvent, Store
from everwhen.backends.locations import shown
from everwhen.branches import BranchInfo
from everwhen.cli.options import BranchOption, JsonOption, StoreArgument
from everwhen.cli.output import Output, counted
from everwhen.cli.store_opening import existing, path_of
from everwhen.errors import DecodeError
from everwhen.exchange.json_forms import utc_text
from everwhen.tiers import HistoryManager, HistoryPolicy, HistoryStatus
from everwhen.vocabulary import Capabilities, TableSize

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_COUNTED: Final = 1_000_000


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(info)


class Summary(msgspec.Struct, frozen=True):
    """What there is to know about a store. Counts are None where it is too big to count.

    What was ``retired``, up to that position, isn't counted as events. ``sealed_data`` is the bytes
    of data of the events that are sealed: their JSON, without names, times and ids.
    """

    store: str
    events: int | None
    position: int
    streams: int | None
    first_recorded_at: datetime | None
    last_recorded_at: datetime | None
    bytes: int | None
    schema_version: int | None
    history: HistoryStatus
    retired: int
    sealed_data: int | None
    categories: dict[str, int] | None
    types: dict[str, int] | None
    capabilities: Capabilities
    branch: BranchInfo | None
    tables: list[TableSize]

    @property
    def bytes_per_event(self) -> float | None:
        """Size on disk by events."""
        return self.bytes / self.events if self.bytes is not None and self.events else None


def info(
    store: StoreArgument,
    *,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Count streams and types even if there are more than a million events."
        ),
    ] = False,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a store holds: events, streams, types, times, size, and where its history is.

    Counts by category are of streams, counts by type of events. Positions up to the one at 'sealed'
    are compressed in segments: see tiers. Those up to the one at 'retired' are no longer kept, and
    not counted.

    What sealing saves is shown by what is known: sealed_data_bytes is the data of the sealed
    events, as JSON text, and sealed_bytes is what their segments take in the file for it, together
    with names, times and ids, but without the segments' index. archived is how many segments are in
    the archive, archive_bytes what its objects take there.

    Of a store in PostgreSQL, tables says how large each of its tables is with its indexes, and how
    many rows, and dead ones, the server believes it to have.
    """
    with existing(store, branch=branch) as opened:
        summary = _summary(opened, store, full=full)
    out = Output(json=json)
    if out.is_terminal:
        out.console.print(_drawn(summary))
        return
    out.fields(
        {
            "store": summary.store,
            "events": summary.events,
            "position": summary.position,
            "streams": summary.streams,
            "first_recorded_at": _maybe(summary.first_recorded_at),
            "last_recorded_at": _maybe(summary.last_recorded_at),
            "bytes": summary.bytes,
            "bytes_per_event": summary.bytes_per_event and round(summary.bytes_per_event, 1),
            "schema_version": summary.schema_version,
            "retired": summary.retired,
            "sealed": summary.history.sealed,
            "segments": len(summary.history.segments),
            "sealed_bytes": summary.history.size,
            "sealed_data_bytes": summary.sealed_data,
            "archived": len(summary.history.archived),
            "archive_bytes": summary.history.archive_size,
            "categories": summary.categories,
            "types": summary.types,
            "capabilities": summary.capabilities,
            "branch": summary.branch,
            "tables": summary.tables,
        }
    )


def _summary(store: Store, location: str, *, full: bool) -> Summary:
    head = store.head()
    path = path_of(location) if store.branch_info is None else None
    version, size = (None, None) if path is None else _file_facts(path)
    tables = store.table_sizes()
    if tables:
        size = sum(table.bytes for table in tables)
    left = Query().skipping_retired()
    first = next(iter(store.read(left.limit(1))), None)
    counted = full or head.position <= _COUNTED
    streams = types = events = data = None
    history = HistoryManager(store, HistoryPolicy()).status()
    retired = max((one.last for one in history.segments if one.retired_at is not None), default=0)
    if counted:
        streams = Counter(info.category for info in store.streams())
        types = Counter[str]()
        data = 0
        for page in store.read_pages(left):
            types.update(event.type for event in page)
            data += _data_size(page, history.sealed)
    if store.capabilities.dense_positions:
        events = head.position - retired
    elif types is not None:
        events = types.total()
    return Summary(
        store=shown(location),
        events=events,
        position=head.position,
        streams=None if streams is None else streams.total(),
        first_recorded_at=None if first is None else first.recorded_at,
        last_recorded_at=head.recorded_at,
        bytes=size,
        schema_version=version,
        history=history,
        retired=retired,
        sealed_data=data,
        categories=None if streams is None else dict(streams.most_common()),
        types=None if types is None else dict(types.most_common()),
        capabilities=store.capabilities,
        branch=store.branch_info,
        tables=tables,
    )


def _data_size(page: Sequence[RecordedEvent[Any]], last: int) -> int:
    """The bytes of data of the events up to a position, without what can't be read."""
    size = 0
    for event in page:
        if event.position > last:
            break
        try:
            size += len(event.json)
        except DecodeError:  # check is who tells
            continue
    return size


def _file_facts(path: Path) -> tuple[int, int]:
    """The schema's version, and the bytes of all pages, wherever they are at the moment.

    Of a partitioned store, of all its files together.
    """
    from everwhen.backends.sqlite.connection import open_connection

    if path.is_dir():
        facts = [_file_facts(file) for file in sorted(path.glob("*.db"))]
        return max(version for version, _ in facts), sum(size for _, size in facts)
    connection = open_connection(path, read_only=True, busy_timeout=1)
    try:
        pages, each = connection.pragma("page_count"), connection.pragma("page_size")
        return int(connection.pragma("user_version")), int(pages) * int(each)
    finally:
        connection.close()


def _maybe(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)


def _drawn(summary: Summary) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from everwhen.cli import formatting

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    uncounted = Text("not counted, because the store is large; --full counts them", "dim italic")

    def counted(number: int | None) -> Text:
        return uncounted if number is None else formatting.number_look(number)

    if summary.branch is not None:
        forked = f"{summary.branch.name}  after position {summary.branch.position:,} of"
        grid.add_row("branch", Text(f"{forked} {summary.branch.parent}"))
    grid.add_row("events", counted(summary.events))
    grid.add_row("streams", counted(summary.streams))
    for name, moment in (
        ("first", summary.first_recorded_at),
        ("last", summary.last_recorded_at),
    ):
        if moment is not None:
            grid.add_row(name, formatting.time_look(moment))
    if summary.bytes is not None:
        size = Text(formatting.bytes_look(summary.bytes))
        if summary.bytes_per_event is not None:
            size.append(f"  {summary.bytes_per_event:.0f} bytes per event", "dim")
        grid.add_row("size", size)
    for row in _tiers(summary):
        grid.add_row(*row)
    grid.add_row("backend", _abilities(summary))
    parts: list[RenderableType] = [Text(summary.store, "bold"), grid]
    for title, counts, look in (
        ("streams by category", summary.categories, formatting.stream_look),
        ("events by type", summary.types, formatting.type_look),
    ):
        if counts:
            parts += [Text(), Text(title, "bold dim"), formatting.counts_look(counts, look)]
    return Group(*parts, *_tables(summary.tables))


def _tables(tables: Sequence[TableSize]) -> Sequence[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    from everwhen.cli.formatting import bytes_look

    if not tables:
        return []
    grid = Table.grid(padding=(0, 2))
    for table in tables:
        dead = f"{counted(table.dead_rows, 'dead row')}" if table.dead_rows else ""
        grid.add_row(table.name, bytes_look(table.bytes), counted(table.rows, "row"), dead)
    return Text(), Text("tables", "bold dim"), grid


def _tiers(summary: Summary) -> Iterator[tuple[str, str | Text]]:
    if summary.retired:
        yield "retired", f"up to position {summary.retired:,}"
    if summary.history.segments:
        yield "sealed", _sealed(summary)
    if summary.history.archived:
        yield "archived", _archived(summary.history)


def _sealed(summary: Summary) -> Text:
    from rich.text import Text

    from everwhen.cli.formatting import bytes_look

    history, data = summary.history, summary.sealed_data
    held = f"{counted(len(history.segments), 'segment')}, {bytes_look(history.size)}"
    saved = f" for {bytes_look(data)} of data" if data and history.size else ""
    return Text.assemble(f"up to position {history.sealed:,}  ", (held + saved, "dim"))


def _archived(history: HistoryStatus) -> Text:
    from rich.text import Text

    from everwhen.cli.formatting import bytes_look

    segments, elsewhere = len(history.archived), sum(not one.is_cold for one in history.archived)
    here = "" if elsewhere == segments else f", {segments - elsewhere:,} of them here as well"
    held = f"{bytes_look(history.archive_size)} of Parquet{here}"
    return Text.assemble(f"{counted(segments, 'segment')}  ", (held, "dim"))


def _abilities(summary: Summary) -> str:
    declared: Mapping[str, object] = msgspec.structs.asdict(summary.capabilities)
    able = [name.replace("_", " ") for name, value in declared.items() if value is True]
    version = "" if summary.schema_version is None else f" schema {summary.schema_version}"
    return f"{summary.capabilities.name}{version}: {', '.join(able)}"
